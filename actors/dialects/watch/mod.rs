//! The dialect `watch`: viewers join by TCP and get the newest picture of one camera by UDP.
//!
//! ```text
//! camera ─► latest ─► projector (crew `vision`: scales, encodes once) ─► live ─► usher (datagrams) ─► viewers
//!                                                                        ▲ │          ▲ answers
//!                                 talk (TCP, one per viewer): join, leave ┘ └► log, events
//! ```
//!
//! Nobody waits for a viewer: a picture is made only when somebody is ready for it, from whatever is the newest then.

mod live;
mod projector;
mod talk;
mod usher;
mod viewers;

use meerkat_base::metric;
use metrics::{counter, gauge};

pub use live::{Live, LiveTools};
pub(crate) use projector::Projector;
pub(super) use talk::Watch;
pub use usher::Usher;

/// Makes every series of the dialect there from the start, as 0.
pub(super) fn announce() {
    gauge!(metric::VIEWERS).set(0.0);
    for why in viewers::Left::ALL {
        counter!(metric::VIEWERS_LEFT, "reason" => why.as_str()).increment(0);
    }
    for result in ["ok", "undecodable", "too_large"] {
        counter!(metric::LIVE_PICTURES, "result" => result).increment(0);
    }
    for result in ["sent", "unsent", "lost"] {
        counter!(metric::LIVE_DATAGRAMS, "result" => result).increment(0);
    }
    counter!(metric::LIVE_BYTES).increment(0);
    for limit in ["viewers_per_address", "viewer_events", "viewer_log"] {
        counter!(metric::LIMIT_HITS, "limit" => limit).increment(0);
    }
    for reason in ["stray_answer", "no_answer"] {
        counter!(metric::PROTOCOL_ERRORS, "reason" => reason).increment(0);
    }
}

/// Longest silence between two pieces of a port number; the number is whole when nothing follows it for so long.
const JOIN_SILENCE: std::time::Duration = std::time::Duration::from_millis(200);
