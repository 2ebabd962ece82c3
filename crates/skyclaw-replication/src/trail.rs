//! The name of a request, on its way from the coordinator that was asked to the one that leads.
//!
//! A request that is followed is worked on within [`Trail::follow`]. What is asked of the leader on its behalf
//! carries the trail along, beside the call and never in a command: the log says nothing of it. The leader does that
//! work in a span that has the name, and that follows the trace, if there is one.
//!
//! What belongs to a request that nobody follows looks once whether there is a trail, and there is none: that is all
//! it costs. It is the task's own and not handed from function to function, as tracing's spans are, because it decides
//! nothing.

use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use skyclaw_proto::NodeId;
use skyclaw_proto::limits::MAX_ID_LEN;
use tracing::Span;

/// Longest value of `tracestate` that is passed on, in bytes: what the W3C asks for at least.
const MAX_STATE_LEN: usize = 512;
/// Most requests that one log line names.
const MAX_NAMED: usize = 64;
/// How long a `traceparent` is, in bytes, with some room for versions to come.
const MAX_PARENT_LEN: usize = 128;

/// A request that is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trail {
    /// The name of the request.
    request: String,
    /// Its place in a trace, as the header `traceparent` has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// What goes with that in `tracestate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

/// Whose request something belongs to, if it is followed.
pub(crate) type OfRequest = Option<Arc<Trail>>;

tokio::task_local! {
    static FOLLOWED: Arc<Trail>;
}

impl Trail {
    /// Of a request with this name, which is at this place of a trace, if it is in one.
    #[must_use]
    pub fn new(request: &str, place: Option<(String, Option<String>)>) -> Self {
        let (parent, state) = place.map_or((None, None), |(parent, state)| (Some(parent), state));
        Self { request: request.to_owned(), parent, state }
    }

    /// Its place in a trace: the values of `traceparent` and `tracestate`.
    #[must_use]
    pub fn place(&self) -> Option<(&str, Option<&str>)> {
        Some((self.parent.as_deref()?, self.state.as_deref()))
    }

    /// Does work on behalf of the request.
    pub async fn follow<T>(self, work: impl Future<Output = T>) -> T {
        Arc::new(self).followed(work).await
    }

    pub(crate) async fn followed<T>(self: Arc<Self>, work: impl Future<Output = T>) -> T {
        FOLLOWED.scope(self, work).await
    }

    /// Whose work the caller does.
    pub(crate) fn current() -> OfRequest {
        FOLLOWED.try_with(Arc::clone).ok()
    }

    /// What cannot break a log line, and is not too long to be on each. Coordinators of other versions say what they
    /// like.
    fn is_sane(&self) -> bool {
        let bounded = |text: &str, most: usize| {
            !text.is_empty() && text.len() <= most && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        };
        bounded(&self.request, MAX_ID_LEN)
            && self.parent.as_deref().is_none_or(|parent| bounded(parent, MAX_PARENT_LEN))
            && self.state.as_deref().is_none_or(|state| bounded(state, MAX_STATE_LEN))
    }
}

impl fmt::Display for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.request)
    }
}

/// The names of several for one log line; `None` where none is followed.
pub(crate) fn names<'a>(trails: impl Iterator<Item = &'a OfRequest>) -> Option<String> {
    let mut names = trails.flatten().map(ToString::to_string).peekable();
    names.peek()?;
    Some(names.take(MAX_NAMED).collect::<Vec<_>>().join(" "))
}

/// What a message to the leader says beside what is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Aside {
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<NodeId>,
    /// On whose behalf: for each command of a write, for all else one.
    #[serde(default)]
    trails: Vec<OfRequest>,
}

impl Aside {
    /// Of one request or several.
    pub(crate) fn new(node: &NodeId, trails: Vec<OfRequest>) -> Self {
        let node = trails.iter().any(Option::is_some).then(|| node.clone());
        Self { node, trails }
    }

    /// Of the one that the caller works for.
    pub(crate) fn current(node: &NodeId) -> Self {
        match Trail::current() {
            Some(trail) => Self::new(node, vec![Some(trail)]),
            None => Self::default(),
        }
    }

    /// Whether there is nothing to say.
    pub(crate) fn is_empty(&self) -> bool {
        self.node.is_none()
    }

    /// The names of all for one log line.
    pub(crate) fn names(&self) -> Option<String> {
        names(self.trails.iter())
    }

    /// On whose behalf the `n`th command is, or the one call.
    pub(crate) fn of(&self, n: usize) -> Option<&Arc<Trail>> {
        self.trails.get(n)?.as_ref().filter(|trail| trail.is_sane())
    }

    /// The span that the leader does something in for the `n`th of these requests.
    pub(crate) fn span(&self, n: usize, follow: &Follower, what: &'static str) -> Option<Span> {
        let trail = self.of(n)?;
        let node = self.node.as_ref().map(tracing::field::display);
        let span =
            tracing::info_span!("leader", id = %trail, from = node, what, index = tracing::field::Empty);
        if let (Some(follow), Some((parent, state))) = (follow.get(), trail.place()) {
            follow(&span, parent, state);
        }
        Some(span)
    }
}

/// Has a span follow a place in a trace, given as the values of `traceparent` and `tracestate`.
pub type Follow = fn(&Span, &str, Option<&str>);

/// How that is done, where traces are exported.
pub(crate) type Follower = OnceLock<Follow>;

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeId {
        NodeId::parse("b").expect("an id")
    }

    fn trail(request: &str) -> Arc<Trail> {
        Arc::new(Trail::new(request, None))
    }

    #[tokio::test]
    async fn what_is_done_for_a_request_is_known_to_be_and_nothing_else_is() {
        assert!(Aside::current(&node()).is_empty());
        let aside = Trail::new("r-1", None).follow(async { Aside::current(&node()) }).await;
        assert_eq!(aside, Aside::new(&node(), vec![Some(trail("r-1"))]));
        assert!(Aside::current(&node()).is_empty());
    }

    #[test]
    fn a_batch_says_of_each_command_whose_it_is() {
        let aside = Aside::new(&node(), vec![None, Some(trail("r-1")), Some(trail("r-2"))]);
        let of = |n| aside.of(n).map(ToString::to_string);
        assert_eq!([of(0), of(1), of(2), of(3)], [None, Some("r-1".into()), Some("r-2".into()), None]);
        assert!(Aside::new(&node(), vec![None, None]).is_empty());
    }

    #[test]
    fn what_could_break_a_log_line_is_passed_by() {
        let wrong = [
            Trail::new("", None),
            Trail::new("a\nb", None),
            Trail::new(&"x".repeat(MAX_ID_LEN + 1), None),
            Trail::new("a", Some(("p\u{1b}".into(), None))),
            Trail::new("a", Some(("p".into(), Some("x".repeat(MAX_STATE_LEN + 1))))),
        ];
        for trail in wrong {
            let aside = Aside::new(&node(), vec![Some(Arc::new(trail))]);
            assert_eq!(aside.of(0), None, "{aside:?}");
        }
    }
}
