//! DynamoDB beside Postgres: items by the ten thousand, writers on them, and a project that moves to the edge while all
//! of it runs.
//!
//! | organisation | its project |
//! |---|---|
//! | 1 | in Postgres; some items of its environments stand in the table all the same and don't count |
//! | 2 | at the edge; its rows in Postgres are left from before and don't count |
//! | 3 | at the edge, gated off |
//! | 4 | in Postgres, until it moves |

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rollcall_e2e::edge::key_of;
use rollcall_e2e::{Edge, EdgeLoad, Failure, TABLE, Table, Worker};
use rollcall_kit::flagsmith::{Scale, World};
use rollcall_model::{Attribute, Item};
use rollcall_test_servers::{DynamoDb, Ministack, MinistackSettings};
use serde_json::Value;
use tokio_postgres::Client;

use crate::scene::Scene;

const WRITERS: usize = 3;
/// Two readers share the shards.
const READERS: usize = 2;
/// DynamoDB Local rounds the time of a record down to the minute, where AWS and ministack round to the second: clocks differ
/// by that.
const MINUTE_SLACK_MS: u64 = 61_000;
const SECOND_SLACK_MS: u64 = 1_000;
/// The project that moves.
const MOVING: i32 = 4;
/// An environment that the catalog doesn't know: its items are kept and not judged.
const UNKNOWN_HOME: &str = "nobody-knows-this-key";

/// An emulator, with an empty table. Both are in memory: files take hundreds of items a second, and it is not the emulator
/// that is killed.
enum Server {
    Local(DynamoDb),
    Ministack(Ministack),
}

/// What lives at the edge of a scene.
pub(crate) struct EdgeSetting {
    server: Server,
    /// Items at the start.
    items: usize,
    edge: Option<Edge>,
}

impl EdgeSetting {
    /// AWS's own emulator.
    pub(crate) fn on_dynamodb_local(items: usize) -> Self {
        let dynamodb = DynamoDb::start();
        dynamodb.create_identities_table(TABLE);
        Self { server: Server::Local(dynamodb), items, edge: None }
    }

    /// The other one: seconds for minutes.
    pub(crate) fn on_ministack(items: usize) -> Self {
        let ministack = Ministack::start(MinistackSettings::default());
        ministack.create_identities_table(TABLE);
        Self { server: Server::Ministack(ministack), items, edge: None }
    }

    fn url(&self) -> String {
        match &self.server {
            Server::Local(dynamodb) => dynamodb.url(),
            Server::Ministack(ministack) => ministack.url(),
        }
    }

    /// How long it takes at most until what is written is known to be counted, without any work.
    pub(crate) fn slack_ms(&self) -> u64 {
        match &self.server {
            Server::Local(_) => MINUTE_SLACK_MS,
            Server::Ministack(_) => SECOND_SLACK_MS,
        }
    }

    /// A population with an organisation for each row of the table above.
    pub(crate) fn widen(scale: Scale) -> Scale {
        Scale { organisations: 4, environments: 8, segments: 32, ..scale }
    }

    /// What topology.yaml takes from the environment.
    pub(crate) fn let_in(worker: &mut Worker) {
        worker.set_variable("EDGE_KEY_ID", "rollcall");
        worker.set_variable("EDGE_SECRET", "anything");
    }

    pub(crate) fn table(&self) -> Table {
        Table::new(&self.url())
    }

    /// Fills the table and says in Postgres which projects live there; its section of topology.yaml.
    pub(crate) async fn prepare(
        &mut self,
        client: &Client,
        world: &World,
        seed: u64,
    ) -> Result<String, Failure> {
        client
            .batch_execute(
                "UPDATE projects_project SET enable_dynamo_db = true WHERE organisation_id IN (2, 3)",
            )
            .await?;
        let of = |organisation: i32| {
            let environments = world.environments.iter().filter(move |e| e.organisation == organisation);
            environments.map(|environment| environment.api_key.clone())
        };
        // By far the most are judged.
        let judged: Vec<String> = of(2).collect();
        let mut homes: Vec<String> = judged.iter().cycle().take(judged.len() * 8).cloned().collect();
        homes.extend(of(1).chain(of(3)).chain([UNKNOWN_HOME.to_owned()]));
        let edge = Edge::new(world, homes, self.items);
        let edge = match &self.server {
            Server::Local(_) => edge.without_empty_maps(),
            Server::Ministack(_) => edge,
        };
        edge.fill(&self.table(), seed).await?;
        self.edge = Some(edge);
        Ok(format!(
            "  edge: {{ type: dynamodb, platform: flagsmith, table: {TABLE}, region: us-east-1, endpoint: \"{}\", \
             access_key_id: \"${{EDGE_KEY_ID}}\", secret_access_key: \"${{EDGE_SECRET}}\", readers: {READERS}, \
             clock_slack_ms: {}, page_items: 500 }}\n",
            self.url(),
            self.slack_ms()
        ))
    }
}

impl Scene {
    /// Starts what writes to the table, where there is one.
    pub(crate) fn write_to_the_edge(&mut self, seed: u64) {
        let Some(setting) = &self.edge else { return };
        let Some(edge) = &setting.edge else { return };
        for writer in 0..WRITERS {
            let mut load = EdgeLoad::new(edge, &setting.table(), seed, writer, WRITERS);
            let (stop, steps) = (Arc::clone(&self.stop), Arc::clone(&self.steps));
            self.writers.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    load.step().await.expect("a step of the load at the edge");
                    steps.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }));
        }
    }

    /// Moves a project to the edge as the platform does: its identities are written to the table, then the project says
    /// that it lives there. Its rows in Postgres stay, and are even written on for a while.
    pub(crate) async fn migrate(&mut self) -> Result<(), Failure> {
        let table = self.edge.as_ref().ok_or("no edge")?.table();
        let client = self.connect().await?;
        let items = items_of_rows(&client, MOVING).await?;
        assert!(items.len() > 100, "{} identities are to move", items.len());
        table.write(&items, &[]).await?;
        client
            .execute("UPDATE projects_project SET enable_dynamo_db = true WHERE id = $1", &[&MOVING])
            .await?;
        println!("project {MOVING} moved to the edge with {} identities", items.len());
        // From here on the platform writes to the table alone.
        for (number, item) in items.iter().enumerate() {
            let key = key_of(item);
            match number % 5 {
                0 => table.delete(&key).await?,
                1 => drop(table.update(&key, "identity_traits", None).await?),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The identities of a project as the platform's migration writes them.
async fn items_of_rows(client: &Client, project: i32) -> Result<Vec<Item>, Failure> {
    let sql = "SELECT e.api_key, i.identifier, i.id, i.system_traits::text, \
               (SELECT coalesce(json_agg(json_build_array(t.trait_key, coalesce(to_json(t.integer_value), \
                   to_json(t.string_value), to_json(t.boolean_value), to_json(t.float_value)))), '[]')::text \
                FROM environments_trait t WHERE t.identity_id = i.id) \
               FROM environments_identity i JOIN environments_environment e ON e.id = i.environment_id \
               WHERE e.project_id = $1";
    let rows = client.query(sql, &[&project]).await?;
    rows.iter()
        .map(|row| {
            let (key, identifier, id): (String, String, i32) = (row.get(0), row.get(1), row.get(2));
            let system_traits: Option<String> = row.get(3);
            let traits: Vec<(String, Value)> = serde_json::from_str(row.get(4))?;
            let traits = traits.into_iter().map(|(key, value)| {
                let fields = [("trait_key", text(&key)), ("trait_value", attribute(value))];
                Attribute::M(fields.map(|(name, value)| (name.to_owned(), value)).into())
            });
            let mut item = Item::from([
                ("composite_key".to_owned(), text(&format!("{key}_{identifier}"))),
                ("environment_api_key".to_owned(), text(&key)),
                ("identifier".to_owned(), text(&identifier)),
                ("identity_uuid".to_owned(), text(&format!("00000000-0000-4000-8000-{id:012}"))),
                ("django_id".to_owned(), Attribute::N(id.to_string())),
                ("identity_traits".to_owned(), Attribute::L(traits.collect())),
            ]);
            if let Some(system_traits) = system_traits.filter(|traits| traits != "{}") {
                item.insert("system_traits".to_owned(), attribute(serde_json::from_str(&system_traits)?));
            }
            Ok(item)
        })
        .collect()
}

fn attribute(value: Value) -> Attribute {
    match value {
        Value::Null => Attribute::Null,
        Value::Bool(value) => Attribute::Bool(value),
        Value::Number(number) => Attribute::N(number.to_string()),
        Value::String(value) => text(&value),
        Value::Array(list) => Attribute::L(list.into_iter().map(attribute).collect()),
        Value::Object(map) => {
            Attribute::M(map.into_iter().map(|(key, value)| (key, attribute(value))).collect())
        }
    }
}

fn text(text: &str) -> Attribute {
    Attribute::S(text.to_owned())
}
