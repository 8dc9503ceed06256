//! One environment of a table, through its index.

use rollcall_model::shards::Coverage;
use rollcall_model::{FaultKind, ItemPages};
use rollcall_source_dynamodb::{EnvironmentFilter, Scan, ScanConfig, estimate};

use crate::table::{Table, identity};
use crate::{ids, pages};

fn of(mut config: ScanConfig, environment: &str) -> ScanConfig {
    config.environment = Some(EnvironmentFilter {
        index: "environment_api_key-identifier-index",
        attribute: "environment_api_key",
        value: environment.to_owned(),
    });
    config
}

#[tokio::test]
async fn only_its_items_come_and_nothing_is_said_of_others() {
    let table = Table::start().await;
    let wanted = table.fill("a", 250).await;
    table.fill("b", 40).await;
    let mut config = of(table.config(), "a");
    config.page_items = 120;
    let scan = Scan::start(&config, None).await.unwrap();
    assert_eq!(scan.coverage(), Coverage::Part);
    let all = pages(&config, None).await.unwrap();
    assert_eq!(ids(&all), wanted);
    // A unit each, and the index at half the price.
    let units: f64 = all.iter().map(|page| page.read_units).sum();
    assert!((250.0..300.0).contains(&units), "{units}");
    for (n, page) in all.iter().enumerate().filter(|(_, page)| !page.done) {
        let rest = pages(&config, Some(page.next.clone())).await.unwrap();
        assert_eq!([ids(&all[..=n]), ids(&rest)].concat(), wanted, "after page {n}");
    }
    assert_eq!(ids(&pages(&of(table.config(), "nobody"), None).await.unwrap()), Vec::<String>::new());
}

#[tokio::test]
async fn the_environment_is_the_attributes_and_not_the_keys() {
    let table = Table::start().await;
    table.put(identity("a", "x_y", 1)).await;
    table.put(identity("a_x", "y", 2)).await;
    let read = pages(&of(table.config(), "a_x"), None).await.unwrap();
    assert_eq!(read.iter().map(|page| page.items.len()).sum::<usize>(), 1);
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let table = Table::start().await;
    table.fill("a", 200).await;
    let mut config = of(table.config(), "a");
    config.environment.as_mut().unwrap().index = "no-such-index";
    let fault = Scan::start(&config, None).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Config);
    assert!(fault.what.contains("it has:") && fault.what.contains("identity_uuid-index"), "{fault}");
    config.environment.as_mut().unwrap().index = "identity_uuid-index";
    assert_eq!(Scan::start(&config, None).await.unwrap_err().kind, FaultKind::Config);
    assert_eq!(estimate(&config).await.unwrap_err().kind, FaultKind::Config);

    let first = pages(&of(table.config(), "a"), None).await.unwrap().remove(0);
    for other in [table.config(), of(table.config(), "b")] {
        let fault = Scan::start(&other, Some(first.next.clone())).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Refused);
        assert!(fault.what.contains("began with environment a"), "{fault}");
    }
    let told = estimate(&of(table.config(), "a")).await.unwrap();
    assert!(told.basis.contains("at most") && told.read_units >= 200.0, "{told:?}");
}
