//! The two kinds of detectors that a node can have.

use super::{Node, PATIENCE, Plan, data, eventually};

/// What finds people and faces.
pub struct Backend {
    /// Whether it is networks.
    pub network: bool,
    models: String,
}

impl Backend {
    /// The methods that are built in.
    pub fn classic() -> Self {
        Self { network: false, models: String::new() }
    }

    /// Networks with the weights of the test data; `None`, with a line that says so, where these are missing.
    pub fn candle() -> Option<Self> {
        let models = data("weights")?.display().to_string();
        Some(Self { network: true, models })
    }

    /// The plan with these detectors.
    pub fn of(&self, plan: Plan) -> Plan {
        let word = if self.network { "candle" } else { "classic" };
        let plan = plan.set("detectors.person.backend", word).set("detectors.face.backend", word);
        if self.network { plan.set("models.dir", &self.models) } else { plan }
    }

    /// Panics when the node has other detectors of a kind, `person` or `face`.
    #[track_caller]
    pub fn check(&self, node: &Node, role: &str) {
        let own = eventually("the detector is ready", PATIENCE, || {
            let status = node.status();
            status["detectors"].as_array().unwrap().iter().find(|one| one["role"] == role).cloned()
        });
        assert_eq!(own["backend"], if self.network { "candle" } else { "classic" }, "{own}");
    }
}
