//! Wrong credentials, missing permissions, tables that can't be read: named, with what repairs each.

use rollcall_dynamo_sim::{Action, DynamoSim, Faults, SimSettings, ViewType};
use rollcall_model::shards::StreamStart;
use rollcall_model::{Fault, FaultKind};
use rollcall_source_dynamodb::{DynamoSourceConfig, begin_stream, preflight};

use crate::group::{Group, config};

const ACTIONS: [Action; 5] = [
    Action::DescribeTable,
    Action::DescribeStream,
    Action::GetShardIterator,
    Action::GetRecords,
    Action::Scan,
];

fn latest(sim: &DynamoSim) -> DynamoSourceConfig {
    config(&sim.url(), StreamStart::Latest, 1)
}

async fn refused(config: &DynamoSourceConfig) -> Fault {
    let fault = begin_stream(config).await.expect_err("it can't begin");
    assert_eq!(fault.kind, FaultKind::Config, "{fault}");
    fault
}

#[tokio::test]
async fn all_is_well() {
    let sim = DynamoSim::start(SimSettings::default());
    assert_eq!(preflight(&latest(&sim)).await.expect("findings"), []);
}

#[tokio::test]
async fn wrong_credentials_are_said_to_be_wrong() {
    let sim = DynamoSim::start(SimSettings::default());
    sim.set_access_key_id(Some("another".to_owned()));
    let fault = refused(&latest(&sim)).await;
    assert!(fault.what.contains("UnrecognizedClientException"), "{fault}");
    assert!(fault.repair.is_some_and(|repair| repair.contains("AWS_ACCESS_KEY_ID")));
}

#[tokio::test]
async fn each_missing_permission_is_named() {
    let sim = DynamoSim::start(SimSettings::default());
    for action in ACTIONS {
        sim.set_faults(Faults { denied: [action].into(), ..Faults::default() });
        let findings = preflight(&latest(&sim)).await.expect("findings");
        let [finding] = findings.as_slice() else { panic!("{action:?}: {findings:?}") };
        let permission = format!("dynamodb:{}", action.name());
        assert!(finding.what.contains(&permission), "{finding:?}");
        let policy = format!("\"Action\": \"{permission}\"");
        assert!(finding.repair.as_ref().is_some_and(|repair| repair.contains(&policy)), "{finding:?}");
    }
    sim.set_faults(Faults { denied: ACTIONS.into(), ..Faults::default() });
    let all = preflight(&latest(&sim)).await.expect("findings");
    assert_eq!(all.len(), 1, "without the table nothing else is known: {all:?}");
    sim.set_faults(Faults { denied: ACTIONS[1..].iter().copied().collect(), ..Faults::default() });
    let all = preflight(&latest(&sim)).await.expect("findings");
    assert_eq!(all.len(), 4, "all at once: {all:?}");
}

#[tokio::test]
async fn a_permission_that_is_taken_away_stops_the_reader_with_its_name() {
    let sim = DynamoSim::start(SimSettings { shards: 1, ..SimSettings::default() });
    for action in [Action::DescribeStream, Action::GetShardIterator, Action::GetRecords] {
        sim.set_faults(Faults::default());
        let mut group = Group::begin(latest(&sim)).await;
        group.start().await;
        sim.set_faults(Faults { denied: [action].into(), ..Faults::default() });
        if action == Action::GetShardIterator {
            // It has an iterator already.
            group.stop();
            group.start().await;
        }
        let fault = group.until_refused().await;
        assert_eq!(fault.kind, FaultKind::Config, "{fault}");
        assert!(fault.what.contains(&format!("dynamodb:{}", action.name())), "{fault}");
    }
}

#[tokio::test]
async fn a_table_without_a_stream_that_can_be_read_is_refused_with_the_command_that_makes_one() {
    let sim = DynamoSim::start(SimSettings { view: None, ..SimSettings::default() });
    let fault = refused(&latest(&sim)).await;
    assert!(fault.what.contains("has no stream"), "{fault}");
    let enable = "--stream-specification StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES";
    assert!(fault.repair.is_some_and(|repair| repair.ends_with(enable)));
    for view in [ViewType::KeysOnly, ViewType::OldImage] {
        let sim = DynamoSim::start(SimSettings { view: Some(view), ..SimSettings::default() });
        let fault = refused(&latest(&sim)).await;
        assert!(fault.what.contains("view type"), "{fault}");
        let repair = fault.repair.expect("a repair");
        assert!(repair.contains("StreamEnabled=false") && repair.ends_with(enable), "{repair}");
        let findings = preflight(&latest(&sim)).await.expect("findings");
        assert_eq!(findings.len(), 1, "{findings:?}");
    }
    let sim = DynamoSim::start(SimSettings { view: Some(ViewType::NewImage), ..SimSettings::default() });
    begin_stream(&latest(&sim)).await.expect("new images are enough");
}

#[tokio::test]
async fn another_table_is_not_read() {
    let sim = DynamoSim::start(SimSettings::default());
    let missing = DynamoSourceConfig { table: "identities".to_owned(), ..latest(&sim) };
    let fault = refused(&missing).await;
    assert!(fault.what.contains("there is no table identities in eu-west-2"), "{fault}");
    let other_key = DynamoSourceConfig { key: "id", ..latest(&sim) };
    let fault = refused(&other_key).await;
    assert!(fault.what.contains("is composite_key (HASH S), not id (HASH S) alone"), "{fault}");
}
