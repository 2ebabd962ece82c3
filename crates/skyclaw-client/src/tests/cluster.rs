//! What only the leader can do, asked of coordinators that do not lead.

use super::*;
use crate::Reason;
use crate::config::Coordinator as Base;
use skyclaw_proto::NodeId;

const MEMBER: &str =
    r#"{"member":{"raftId":"7","nodeId":"node-c","url":"http://c:1","role":"follower","lag":0}}"#;

fn name() -> NodeId {
    NodeId::parse("node-c").expect("id")
}

/// What a coordinator answers that does not lead.
fn not_leader(leader: Option<&str>) -> Response {
    let leader = leader.map_or("null".to_owned(), |url| format!("{url:?}"));
    let text = "this coordinator does not lead";
    reply(503, format!(r#"{{"error":"{text}","code":"not_leader","details":{{"leaderUrl":{leader}}}}}"#))
}

async fn follower(leader: &Coordinator) -> Coordinator {
    let leader = leader.url.clone();
    Coordinator::start(move |_, _| not_leader(Some(&leader))).await
}

#[tokio::test]
async fn a_change_goes_straight_to_the_configured_coordinator_that_is_named_as_the_leader() {
    let leader = Coordinator::start(|_, _| reply(200, MEMBER)).await;
    let (first, between) = (follower(&leader).await, follower(&leader).await);
    let client = client(&[&first.url, &between.url, &leader.url]);
    let removed = client.remove_member(&name()).await.expect("removed");
    assert_eq!(removed.node_id, Some(name()));
    assert_eq!(leader.lines(), ["POST /v1/cluster/members/node-c/remove"]);
    assert_eq!((first.asked().len(), between.asked().len()), (1, 0));
}

#[tokio::test]
async fn a_leader_that_is_not_configured_is_asked_too_and_other_calls_stay_where_they_were() {
    let cluster = r#"{"nodeId":"node-a","term":3,"applied":9,"members":[]}"#;
    let leader = Coordinator::start(move |_, _| reply(200, cluster)).await;
    let first = follower(&leader).await;
    let client = client(&[&first.url]);
    let after = client.transfer_leadership(Some("node-c")).await.expect("transferred");
    assert_eq!((after.term, client.coordinators()), (3, vec![first.url.as_str()]));
    let asked = &leader.asked()[0];
    assert_eq!(
        (asked.line.as_str(), asked.body.as_str()),
        ("POST /v1/cluster/transfer", r#"{"to":"node-c"}"#)
    );
    assert_eq!(asked.header("x-skyclaw-token"), Some("s3cret"));
}

#[tokio::test]
async fn without_a_leader_a_change_is_tried_again_until_there_is_one() {
    let node = Coordinator::start(|nth, _| match nth {
        0 | 1 => not_leader(None),
        _ => reply(200, MEMBER),
    })
    .await;
    client(&[&node.url]).remove_member(&name()).await.expect("removed");
    assert_eq!(node.asked().len(), 3);
}

#[tokio::test]
async fn a_leader_that_never_shows_up_is_waited_for_a_few_rounds_only() {
    let down = nowhere();
    let node = Coordinator::start(move |_, _| not_leader(Some(&down.0))).await;
    let client = Client::new(Config::new([node.url.as_str()], None)).expect("client");
    let error = client.remove_member(&name()).await.expect_err("no leader");
    let Error::Unavailable { failures, key, .. } = &error else { panic!("{error}") };
    assert_eq!((node.asked().len(), failures.len(), key), (5, 2, &None));
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_not_sent_again() {
    let unsure = Coordinator::start(|_, _| reply(502, "bad gateway")).await;
    let other = Coordinator::start(|_, _| reply(200, MEMBER)).await;
    let error = client(&[&unsure.url, &other.url]).remove_member(&name()).await.expect_err("unsure");
    check_error(
        &error,
        &[&unsure.url],
        &expect![
            "POST /v1/cluster/members/node-c/remove at URL0: bad gateway (502); it may have been carried out all the same: look before you repeat it"
        ],
    );
    let Error::Unsure { reason, .. } = error else { panic!("{error:?}") };
    assert!(matches!(*reason, Reason::Busy { status: 502, .. }));
    assert_eq!((unsure.asked().len(), other.asked().len()), (1, 0));
}

#[test]
fn a_coordinator_reached_by_tls_cannot_send_the_token_to_one_that_is_not() {
    let base = |url: &str| Base::parse(url).expect("url");
    let (plain, sealed) = (base("http://a"), base("https://b"));
    assert!(!sealed.may_name(&plain));
    assert!(sealed.may_name(&sealed) && plain.may_name(&plain) && plain.may_name(&sealed));
}
