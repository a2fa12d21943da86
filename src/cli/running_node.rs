//! The way to a node that runs in the data folder: its people and its snoozes, by its HTTP interface. Touches no database.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use meerkat_base::{ImageFormat, Secret};
use meerkat_outbound::{HttpClient, OutboundSettings, Reply, SecretUrl};
use meerkat_store::Person;
use meerkat_web::{Even, MAX_ENROLMENT_BYTES, MAX_ENROLMENT_PICTURES, NewSnooze, PersonSummary, SnoozeEnd};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::snooze;
use crate::settings::Settings;

/// Where a node is asked about snoozes.
const SNOOZES: &str = "/api/v1/snoozes";

/// Longer than the node lets an enrolment take: what it says comes before what we would guess.
const PATIENCE: Duration = Duration::from_secs(150);
/// How often it is looked how far long work is.
const LOOK: Duration = Duration::from_millis(100);
/// Longest answer that is read: some ten thousand people.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// Somebody who is enrolled, as the list shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    pub id: String,
    pub name: String,
    pub consent_by: String,
    pub consent_at: String,
    pub created: String,
    pub pictures: u64,
    #[serde(default)]
    pub negatives: u64,
}

impl From<Person> for Listed {
    fn from(person: Person) -> Self {
        Self {
            id: person.id.to_string(),
            name: person.name,
            consent_by: person.consent_by,
            consent_at: person.consent_at.to_string(),
            created: person.created.to_string(),
            pictures: person.pictures,
            negatives: person.negatives,
        }
    }
}

impl From<PersonSummary> for Listed {
    fn from(person: PersonSummary) -> Self {
        Self {
            id: person.id,
            name: person.name,
            consent_by: person.consent_by,
            consent_at: person.consent_at.to_string(),
            created: person.created.to_string(),
            pictures: person.pictures,
            negatives: person.negatives,
        }
    }
}

/// Why a node did not enrol somebody.
#[derive(Debug)]
pub(super) enum NotEnrolled {
    /// These pictures, counted from 1, cannot be used, and why.
    Pictures(Vec<(usize, String)>),
    /// They look like somebody who is enrolled under another name, in words.
    Known(String),
    /// Anything else.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for NotEnrolled {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A running node that answers.
pub(super) struct RunningNode {
    client: HttpClient,
    runtime: Runtime,
    address: SocketAddr,
    authorization: Option<Secret>,
}

impl RunningNode {
    /// Looks for the node that holds the data folder (`holder`, as the lock says it) where the settings say that it
    /// listens. A node that answers there but is another one is refused: it would learn the wrong faces.
    pub fn find(settings: &Settings, holder: &str) -> anyhow::Result<Self> {
        let address = callable(settings.http.listen)?;
        let client = HttpClient::new(OutboundSettings {
            total_timeout: PATIENCE,
            max_reply_bytes: MAX_ANSWER_BYTES,
            // The address is the operator's own setting.
            allow_link_local: true,
            ..OutboundSettings::default()
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let token = settings.http.token.as_ref();
        let authorization = token.map(|token| Secret::new(format!("Bearer {}", token.reveal())));
        let node = Self { client, runtime, address, authorization };
        let process = &node.list()?["process"];
        let is_holder = holder.starts_with(&format!("process {process} "));
        // A full disk may have kept the name of the holder out of the lock.
        if !is_holder && holder.starts_with("process ") {
            bail!("the node at {address} is process {process}: another one");
        }
        Ok(node)
    }

    /// Everybody, by name.
    pub fn people(&self) -> anyhow::Result<Vec<Listed>> {
        let people = self.list()?["people"].take();
        serde_json::from_value(people).context("the node answers with something that is no list of people")
    }

    /// Enrols somebody, or adds pictures to them.
    pub fn enrol(
        &self,
        name: &str,
        consent_by: &str,
        pictures: &[(ImageFormat, Vec<u8>)],
        even: Even,
    ) -> Result<Listed, NotEnrolled> {
        let encoded: u64 = pictures.iter().map(|(_, bytes)| bytes.len().div_ceil(3) as u64 * 4 + 64).sum();
        if pictures.len() > MAX_ENROLMENT_PICTURES || encoded + 8192 > MAX_ENROLMENT_BYTES {
            return Err(NotEnrolled::Failed(anyhow!(
                "a running node takes at most {MAX_ENROLMENT_PICTURES} pictures at once, and {} MiB in all; enrol \
                 the others after these, under the same name",
                (MAX_ENROLMENT_BYTES >> 20) / 4 * 3
            )));
        }
        let pictures: Vec<Value> =
            pictures.iter().map(|(format, bytes)| encoded_picture(*format, bytes)).collect();
        let order = json!({
            "name": name,
            "consent_by": consent_by,
            "pictures": pictures,
            "even_if_known": even.if_known,
            "even_if_unlike": even.if_unlike,
        });
        self.order_enrolment("people", &order)
    }

    /// Orders an enrolment below `/api/v1/`, of whatever.
    pub fn order_enrolment(&self, below: &str, order: &Value) -> Result<Listed, NotEnrolled> {
        let (reply, answer) = self.order(below, order)?;
        if reply.is_success() {
            return Ok(serde_json::from_value(answer)?);
        }
        if reply.status == 409 {
            let words =
                answer["error"].as_str().unwrap_or("this looks like somebody who is enrolled already");
            return Err(NotEnrolled::Known(words.to_owned()));
        }
        let problems: Vec<(usize, String)> = answer["pictures"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| {
                Some((usize::try_from(one["number"].as_u64()?).ok()?, one["problem"].as_str()?.to_owned()))
            })
            .collect();
        if problems.is_empty() {
            return Err(NotEnrolled::Failed(refusal(&reply, &answer)));
        }
        Err(NotEnrolled::Pictures(problems))
    }

    /// Sends an order below `/api/v1/`; what was answered, whatever it is.
    pub fn order(&self, below: &str, order: &Value) -> anyhow::Result<(Reply, Value)> {
        let (url, headers) = (self.api(below)?, self.headers());
        let sent = self.client.post_bytes(&url, "application/json", &headers, order.to_string().into());
        let reply = self.runtime.block_on(sent)?;
        let answer = read(&reply)?;
        Ok((reply, answer))
    }

    /// Where somebody stands below `/api/v1/`, given by name or id; nothing when there is no such person.
    pub fn place_of(&self, name_or_id: &str) -> anyhow::Result<Option<String>> {
        let wanted = name_or_id.trim();
        // By id: not every name can stand in an address.
        let people = self.people()?;
        let found = people.iter().find(|one| one.name == wanted);
        let person = found.or_else(|| people.iter().find(|one| one.id == wanted));
        Ok(person.map(|person| format!("people/{}", person.id)))
    }

    /// Removes something below `/api/v1/`; nothing when it is not there.
    pub fn delete_if_there(&self, below: &str) -> anyhow::Result<Option<Value>> {
        let url = self.api(below)?;
        let reply = self.runtime.block_on(self.client.delete(&url, &self.headers()))?;
        if reply.status == 404 { Ok(None) } else { self.answer(&reply).map(Some) }
    }

    /// Lets deletion go on after a look at the database; whether it was suspended.
    pub fn confirm_store(&self) -> anyhow::Result<bool> {
        Ok(self.post("store/confirm")?["confirmed"].as_bool().unwrap_or_default())
    }

    /// Asks below `/api/v1/` with GET.
    pub fn get(&self, below: &str) -> anyhow::Result<Value> {
        let url = self.api(below)?;
        let reply = self.runtime.block_on(self.client.get(&url, &self.headers()))?;
        self.answer(&reply)
    }

    /// As [`RunningNode::get`]; nothing when it is not there.
    pub fn get_if_there(&self, below: &str) -> anyhow::Result<Option<Value>> {
        let url = self.api(below)?;
        let reply = self.runtime.block_on(self.client.get(&url, &self.headers()))?;
        if reply.status == 404 { Ok(None) } else { self.answer(&reply).map(Some) }
    }

    /// Orders long work at the database and waits for its end, however long that is; its result. `report` hears how far
    /// it is.
    pub fn long_work(&self, below: &str, report: &mut dyn FnMut(&str, u64, u64)) -> anyhow::Result<Value> {
        let number = self.post(below)?["number"].take();
        loop {
            let mut state = self.get(below)?;
            ensure!(state["number"] == number, "the node has begun another one meanwhile");
            match state["state"].as_str() {
                Some("running") => {}
                Some("done") => return Ok(state["result"].take()),
                Some("failed") => bail!("{}", state["error"].as_str().unwrap_or("the node says not why")),
                _ => bail!("what the node began is gone"),
            }
            let count = |key: &str| state[key].as_u64().unwrap_or(0);
            report(state["doing"].as_str().unwrap_or_default(), count("done"), count("of"));
            std::thread::sleep(LOOK);
        }
    }

    /// Orders something below `/api/v1/` with an empty POST.
    pub fn post(&self, below: &str) -> anyhow::Result<Value> {
        let url = self.api(below)?;
        let (headers, empty) = (self.headers(), bytes::Bytes::new());
        let sent = self.client.post_bytes(&url, "application/json", &headers, empty);
        let reply = self.runtime.block_on(sent)?;
        self.answer(&reply)
    }

    /// Removes something below `/api/v1/`.
    pub fn delete(&self, below: &str) -> anyhow::Result<Value> {
        let url = self.api(below)?;
        let reply = self.runtime.block_on(self.client.delete(&url, &self.headers()))?;
        self.answer(&reply)
    }

    fn answer(&self, reply: &Reply) -> anyhow::Result<Value> {
        let answer = read(reply)?;
        ensure!(reply.is_success(), refusal(reply, &answer));
        Ok(answer)
    }

    /// Sets or takes back the keep flag of an event or of a clip; the paths of the clips, or nothing when there is no
    /// such thing.
    pub fn keep(&self, what: &str, keep: bool) -> anyhow::Result<Option<Vec<String>>> {
        let is_id = what.parse::<meerkat_base::EventId>().is_ok();
        let below =
            if is_id { format!("events/{what}/keep") } else { format!("clips/keep?path={}", escaped(what)) };
        let url = self.api(&below)?;
        let reply = self.runtime.block_on(async {
            if keep {
                let empty = bytes::Bytes::new();
                self.client.post_bytes(&url, "application/json", &self.headers(), empty).await
            } else {
                self.client.delete(&url, &self.headers()).await
            }
        })?;
        if reply.status == 404 {
            return Ok(None);
        }
        let mut answer = read(&reply)?;
        ensure!(reply.is_success(), refusal(&reply, &answer));
        Ok(Some(serde_json::from_value(answer["clips"].take())?))
    }

    fn api(&self, below: &str) -> anyhow::Result<SecretUrl> {
        Ok(SecretUrl::parse(&format!("http://{}/api/v1/{below}", self.address))?)
    }

    /// Every snooze that holds.
    pub fn snoozes(&self) -> anyhow::Result<Vec<snooze::Listed>> {
        let snoozes = self.read_at(SNOOZES)?["snoozes"].take();
        serde_json::from_value(snoozes).context("the node answers with something that is no list of snoozes")
    }

    /// Keeps messages back from now on.
    pub fn add_snooze(&self, order: &NewSnooze) -> anyhow::Result<snooze::Listed> {
        let mut body = json!({ "camera": order.camera, "rule": order.rule, "reason": order.reason });
        match order.end {
            SnoozeEnd::After(length) => body["for_secs"] = length.as_secs_f64().into(),
            SnoozeEnd::At(until) => body["until"] = until.0.into(),
            SnoozeEnd::Never => body["disarm"] = true.into(),
        }
        let (url, headers) = (self.url_at(SNOOZES)?, self.headers());
        let posting = self.client.post_bytes(&url, "application/json", &headers, body.to_string().into());
        let reply = self.runtime.block_on(posting)?;
        let answer = read(&reply)?;
        ensure!(reply.is_success(), refusal(&reply, &answer));
        Ok(serde_json::from_value(answer)?)
    }

    /// Ends a snooze; whether there was such a one.
    pub fn cancel_snooze(&self, id: &str) -> anyhow::Result<bool> {
        // What is no id cannot stand in an address.
        let Ok(id) = uuid::Uuid::parse_str(id) else { return Ok(false) };
        let url = self.url_at(&format!("{SNOOZES}/{id}"))?;
        let reply = self.runtime.block_on(self.client.delete(&url, &self.headers()))?;
        if reply.status == 404 {
            return Ok(false);
        }
        let answer = read(&reply)?;
        if reply.is_success() { Ok(true) } else { Err(refusal(&reply, &answer)) }
    }

    fn list(&self) -> anyhow::Result<Value> {
        self.read_at("/api/v1/people")
    }

    fn read_at(&self, address: &str) -> anyhow::Result<Value> {
        let url = self.url_at(address)?;
        let reply = self.runtime.block_on(self.client.get(&url, &self.headers()))?;
        let answer = read(&reply)?;
        ensure!(reply.is_success(), refusal(&reply, &answer));
        Ok(answer)
    }

    fn url_at(&self, address: &str) -> anyhow::Result<SecretUrl> {
        Ok(SecretUrl::parse(&format!("http://{}{address}", self.address))?)
    }

    fn headers(&self) -> Vec<(&'static str, &str)> {
        self.authorization.iter().map(|value| ("authorization", value.reveal())).collect()
    }
}

/// A text as it can stand in a query.
pub(super) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Where a listening address can be called from this machine.
fn callable(listen: SocketAddr) -> anyhow::Result<SocketAddr> {
    ensure!(
        listen.port() != 0,
        "http.listen = {listen} leaves the port open, so it cannot be known here; set it"
    );
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok(SocketAddr::new(ip, listen.port()))
}

fn read(reply: &Reply) -> anyhow::Result<Value> {
    let body = reply.body.as_ref().map_err(|error| anyhow!(error.clone()))?;
    serde_json::from_slice(body)
        .map_err(|_| anyhow!("what answers there is no node of this version (status {})", reply.status))
}

pub(super) fn refusal(reply: &Reply, answer: &Value) -> anyhow::Error {
    match (reply.status, answer["error"].as_str()) {
        (401, _) => anyhow!("the node wants its http.token, which this configuration does not have"),
        (_, Some(words)) => anyhow!("the node refuses: {words}"),
        (status, None) => anyhow!("the node answers with status {status}"),
    }
}

/// A picture as it stands in an order.
pub(super) fn encoded_picture(format: ImageFormat, bytes: &[u8]) -> Value {
    json!({ "format": word(format), "data": STANDARD.encode(bytes) })
}

fn word(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "jpeg",
        ImageFormat::Png => "png",
        ImageFormat::Webp => "webp",
        ImageFormat::Bmp => "bmp",
        ImageFormat::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_stand_in_a_query() {
        assert_eq!(escaped("capture/clip/10.0.0.1_2/a b&c.mp4"), "capture/clip/10.0.0.1_2/a%20b%26c.mp4");
        assert_eq!(escaped("é"), "%C3%A9");
    }

    #[test]
    fn a_listening_address_becomes_one_to_call() {
        let check = |listen: &str, expected: &str| {
            assert_eq!(callable(listen.parse().unwrap()).unwrap().to_string(), expected, "{listen}");
        };
        check("127.0.0.1:8080", "127.0.0.1:8080");
        check("0.0.0.0:8080", "127.0.0.1:8080");
        check("[::]:8080", "[::1]:8080");
        check("192.0.2.7:80", "192.0.2.7:80");
        assert!(callable("127.0.0.1:0".parse().unwrap()).unwrap_err().to_string().contains("http.listen"));
    }
}
