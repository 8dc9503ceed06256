//! What a scan will take, before it reads anything (`rollcall backfill --plan`).

use rollcall_model::Fault;
use rollcall_model::shards::BackfillEstimate;

use crate::pace::Rate;
use crate::scan::ScanConfig;
use crate::scan_table::Table;

/// A consistent read of so many bytes is one read capacity unit.
const BYTES_PER_UNIT: f64 = 4_096.0;

/// What reading a table will take, by what DynamoDB says of it.
///
/// # Errors
/// A [`Fault`] when there is no such table or index, or no right to ask.
pub async fn estimate(config: &ScanConfig) -> Result<BackfillEstimate, Fault> {
    Rate::new(config.read_units_per_s)?;
    let table = Table::open(&config.aws, &config.table, config.key).await?;
    if let Some(environment) = &config.environment {
        table.check_index(environment.index, environment.attribute)?;
    }
    Ok(reckon(table.items, table.bytes, config.environment.is_some(), config.read_units_per_s))
}

fn reckon(items: u64, bytes: u64, environment: bool, units_per_s: Option<f64>) -> BackfillEstimate {
    let scanned = (bytes as f64 / BYTES_PER_UNIT).ceil();
    let (read_units, basis) = if environment {
        // Each item is rounded up by itself; the index is read at half the price.
        let each = if items == 0 { 0.0 } else { (scanned / items as f64).ceil().max(1.0) };
        let most = items as f64 * each + (scanned / 2.0).ceil();
        (
            most,
            "at most, for how many items are of the environment is unknown; the table's ItemCount and TableSizeBytes",
        )
    } else {
        (scanned, "the table's ItemCount and TableSizeBytes")
    };
    BackfillEstimate {
        items,
        bytes,
        read_units,
        seconds: units_per_s.map(|rate| read_units / rate),
        basis: format!("{basis}, which DynamoDB brings up to date about every six hours"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_costs_its_bytes_and_an_environment_its_items() {
        let whole = reckon(1_000_000, 400_000_000, false, Some(100.0));
        assert_eq!((whole.items, whole.read_units), (1_000_000, 97_657.0));
        assert_eq!(whole.seconds, Some(976.57));
        assert!(whole.basis.contains("six hours"));
        let part = reckon(1_000_000, 400_000_000, true, None);
        assert_eq!((part.read_units, part.seconds), (1_048_829.0, None));
        assert!(part.basis.contains("unknown"));
        assert_eq!(reckon(0, 0, true, Some(1.0)).read_units, 0.0);
    }
}
