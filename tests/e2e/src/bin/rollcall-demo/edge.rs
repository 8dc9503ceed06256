//! The edge of the demo: an emulator of DynamoDB with a table of items, and which projects live there.
//!
//! It is ministack: DynamoDB Local rounds the times of records down to the minute, where AWS rounds to the second, so that a
//! first load beside the stream would wait for two of them.

use rollcall_e2e::{Edge, EdgeLoad, TABLE, Table};
use rollcall_kit::flagsmith::World;
use rollcall_test_servers::{Ministack, MinistackSettings};
use serde_json::json;
use tokio_postgres::Client;

use crate::{Args, Failure, SourceKind, Teller};

/// The organisation whose project lives at the edge, where not all do.
const AT_EDGE: i32 = 2;
/// It lets any key in. Rollcall takes it from where AWS' own tools do, so that topology.yaml holds none.
pub(crate) const CREDENTIALS: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "demo"), ("AWS_SECRET_ACCESS_KEY", "demo")];

/// A DynamoDB with items.
pub(crate) struct EdgeServer {
    pub(crate) dynamodb: Ministack,
    table: Table,
    edge: Edge,
    /// Projects whose identities are items.
    projects: Vec<i32>,
}

/// Switches the table's stream on or off.
async fn stream(table: &Table, on: bool) -> Result<(), Failure> {
    let mut specification = json!({"StreamEnabled": on});
    if on {
        specification["StreamViewType"] = "NEW_AND_OLD_IMAGES".into();
    }
    let body = json!({"TableName": TABLE, "StreamSpecification": specification});
    table.ask("UpdateTable", &body).await.map(drop)
}

impl EdgeServer {
    /// Starts it and fills it, where the demo has an edge; says in Postgres which projects live there.
    pub(crate) async fn start(
        args: &Args,
        client: &Client,
        world: &World,
        teller: &Teller,
    ) -> Result<Option<Self>, Failure> {
        let projects = match args.source {
            SourceKind::Postgres => return Ok(None),
            SourceKind::Dynamodb => world.organisations.clone(),
            SourceKind::Both => vec![AT_EDGE],
        };
        teller.tell("starting an emulator of DynamoDB (ministack)");
        let dynamodb = Ministack::start(MinistackSettings::default());
        dynamodb.create_identities_table(TABLE);
        let table = Table::new(&dynamodb.url());
        let (_, items) = args.shares();
        let whose = if projects.len() == 1 {
            format!(
                "project {AT_EDGE} lives at the edge: its rows in Postgres are left from before and don't count"
            )
        } else {
            "all projects live at the edge".to_owned()
        };
        teller.tell(&format!("writing {items} items to its table {TABLE}; {whose}"));
        let sql = "UPDATE projects_project SET enable_dynamo_db = true WHERE id = ANY($1)";
        client.execute(sql, &[&projects]).await?;
        let homes = world.environments.iter().filter(|environment| projects.contains(&environment.project));
        let edge = Edge::new(world, homes.map(|environment| environment.api_key.clone()).collect(), items);
        // As in a platform that has its table for long: what stands in it was never in the stream.
        stream(&table, false).await?;
        edge.fill(&table, args.seed).await?;
        stream(&table, true).await?;
        Ok(Some(Self { dynamodb, table, edge, projects }))
    }

    /// Its section of topology.yaml.
    pub(crate) fn source(&self) -> String {
        format!(
            "  edge: {{ type: dynamodb, platform: flagsmith, table: {TABLE}, region: us-east-1, endpoint: \"{}\", \
             clock_slack_ms: 1000 }}\n",
            self.url()
        )
    }

    pub(crate) fn url(&self) -> String {
        self.dynamodb.url()
    }

    /// One of `writers` on it.
    pub(crate) fn load(&self, seed: u64, writer: usize, writers: usize) -> EdgeLoad {
        EdgeLoad::new(&self.edge, &self.table, seed, writer, writers)
    }

    /// What of the world lives in Postgres still.
    pub(crate) fn rest_of(&self, world: &World) -> World {
        let mut rest = world.clone();
        rest.environments.retain(|environment| !self.projects.contains(&environment.project));
        let ids: Vec<i32> = rest.environments.iter().map(|environment| environment.id).collect();
        rest.identities.retain(|(_, environment)| ids.contains(environment));
        rest
    }
}
