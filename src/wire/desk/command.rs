//! The first message of a connection: which command it is. The texts are fixed and none begins with another, so the last
//! byte of one is its end.

/// A client by its number; its port is the one at that place of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientNumber(u8);

impl ClientNumber {
    /// All four.
    pub const ALL: [ClientNumber; 4] = [Self(1), Self(2), Self(3), Self(4)];

    /// A number from 1 to 4.
    pub fn new(number: u8) -> Option<Self> {
        (1..=4).contains(&number).then_some(Self(number))
    }

    /// From 1.
    pub fn get(self) -> u8 {
        self.0
    }

    /// From 0.
    pub fn index(self) -> usize {
        usize::from(self.0.saturating_sub(1))
    }
}

/// A picture that shows what is in the client's CSV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Chart {
    /// Correlations between the numeric columns.
    HeatMap,
    /// Skewness of the numeric columns.
    Bars,
    /// Missing values per column.
    Pie,
    /// Columns against each other.
    Scatter,
}

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// Answers to a text.
    Chat,
    /// A file for a client, passed on as it is.
    RelayTo(ClientNumber),
    /// The oldest file that waits for the client of this port.
    RelayFetch,
    /// A picture that the next commands are about.
    SendPicture,
    /// The first face on the picture.
    Face,
    /// What is on the picture.
    Objects,
    /// A CSV file that the next commands are about.
    SendCsv,
    /// Looks through the CSV file.
    Analyse,
    /// One of the charts.
    Chart(Chart),
    /// The word clouds.
    WordClouds,
}

impl Command {
    /// Every command.
    pub const ALL: [Command; 16] = [
        Command::Chat,
        Command::RelayTo(ClientNumber(1)),
        Command::RelayTo(ClientNumber(2)),
        Command::RelayTo(ClientNumber(3)),
        Command::RelayTo(ClientNumber(4)),
        Command::RelayFetch,
        Command::SendPicture,
        Command::Face,
        Command::Objects,
        Command::SendCsv,
        Command::Analyse,
        Command::Chart(Chart::HeatMap),
        Command::Chart(Chart::Bars),
        Command::Chart(Chart::Pie),
        Command::Chart(Chart::Scatter),
        Command::WordClouds,
    ];

    /// As the client says it, and as it is echoed.
    pub fn text(self) -> &'static str {
        match self {
            Command::Chat => "复读机mode",
            Command::RelayTo(ClientNumber(1)) => "加密文件转发mode1",
            Command::RelayTo(ClientNumber(2)) => "加密文件转发mode2",
            Command::RelayTo(ClientNumber(3)) => "加密文件转发mode3",
            Command::RelayTo(_) => "加密文件转发mode4",
            Command::RelayFetch => "接收文件mode",
            Command::SendPicture => "发送图片mode",
            Command::Face => "人脸检测mode",
            Command::Objects => "目标识别mode",
            Command::SendCsv => "发送csv文件mode",
            Command::Analyse => "数据分析mode",
            Command::Chart(Chart::HeatMap) => "热力图mode",
            Command::Chart(Chart::Bars) => "柱状图mode",
            Command::Chart(Chart::Pie) => "饼状图mode",
            Command::Chart(Chart::Scatter) => "散点图mode",
            Command::WordClouds => "词云mode",
        }
    }

    /// As it stands in metrics and log.
    pub fn as_str(self) -> &'static str {
        match self {
            Command::Chat => "chat",
            Command::RelayTo(_) => "relay_to",
            Command::RelayFetch => "relay_fetch",
            Command::SendPicture => "send_picture",
            Command::Face => "face",
            Command::Objects => "objects",
            Command::SendCsv => "send_csv",
            Command::Analyse => "analyse",
            Command::Chart(_) => "chart",
            Command::WordClouds => "word_clouds",
        }
    }

    /// The command at the beginning of these bytes. `Err`: they are not the beginning of any.
    pub(super) fn at_start(bytes: &[u8]) -> Result<Option<Command>, ()> {
        let mut may_become_one = false;
        for command in Self::ALL {
            let text = command.text().as_bytes();
            if bytes.starts_with(text) {
                return Ok(Some(command));
            }
            may_become_one |= text.starts_with(bytes);
        }
        if may_become_one { Ok(None) } else { Err(()) }
    }
}
