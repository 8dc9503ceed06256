//! A population: organisations, environments, segments and identities, copied in with explicit ids.

use bytes::Bytes;
use futures_util::SinkExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::{Client, Error};

use super::segments::{self, Condition, Form, Rule, Segment};
use super::vocabulary::{self, RAISING};
use super::{Environment, World};

/// How much there is. Environments, segments and identities are spread evenly over what is above them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scale {
    /// Organisations, each with one project.
    pub organisations: usize,
    /// Environments in all.
    pub environments: usize,
    /// Segments in all, without the unsupported ones.
    pub segments: usize,
    /// Identities in all.
    pub identities: usize,
    /// Traits of each.
    pub traits_per_identity: usize,
    /// Whether there are also segments that can't be judged, one of each reason per project.
    pub unsupported: bool,
}

/// What is sent to COPY at once.
const COPY_BYTES: usize = 1 << 20;
const NOW: &str = "2026-01-01 00:00:00+00";

/// Fills the tables of [`super::SCHEMA`]; the same scale and seed give the same rows.
///
/// # Errors
/// What Postgres says.
pub async fn populate(client: &Client, scale: Scale, seed: u64) -> Result<World, Error> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = catalog(&mut rng, scale);
    copy_catalog(client, &mut rng, &world).await?;
    if scale.unsupported {
        break_rules_data(client, &mut world, scale.organisations).await?;
    }
    copy_identities(client, &mut rng, scale, &mut world).await?;
    for table in TABLES {
        client.batch_execute(&format!(
            "SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT coalesce(max(id), 1) FROM {table}))"
        ))
        .await?;
    }
    client.batch_execute("ANALYZE").await?;
    Ok(world)
}

const TABLES: [&str; 8] = [
    "organisations_organisation",
    "projects_project",
    "environments_environment",
    "segments_segment",
    "segments_segmentrule",
    "segments_condition",
    "environments_identity",
    "environments_trait",
];

fn catalog(rng: &mut StdRng, scale: Scale) -> World {
    let organisations = (1..).take(scale.organisations.max(1)).collect::<Vec<i32>>();
    let of = |number: usize| organisations[number % organisations.len()];
    let environments = (0..scale.environments)
        .map(|number| Environment {
            id: number as i32 + 1,
            project: of(number),
            organisation: of(number),
            api_key: format!("env-key-{}", number + 1),
        })
        .collect();
    let mut world = World { environments, ..World::default() };
    for number in 0..scale.segments {
        world.segments.insert(number as i32 + 1, segments::segment(rng, number, of(number)));
    }
    if scale.unsupported {
        for project in &organisations {
            for (operator, property, value) in RAISING {
                let bad = Condition { operator, property: Some(property.into()), value: Some(value.into()) };
                let rule = Rule { rule_type: "ANY", conditions: vec![bad], rules: Vec::new() };
                let id = world.segments.len() as i32 + 1;
                let form = if id % 2 == 0 { Form::Rows } else { Form::RulesData };
                world.segments.insert(id, Segment { project: *project, form, rules: vec![rule] });
                world.unsupported.insert(id);
            }
        }
    }
    world.organisations = organisations;
    world
}

/// One segment per project whose rules_data has a shape that nobody knows.
async fn break_rules_data(client: &Client, world: &mut World, projects: usize) -> Result<(), Error> {
    for project in (1..).take(projects) {
        let id = world.segments.keys().next_back().map_or(1, |id| id + 1);
        client
            .execute(
                "INSERT INTO segments_segment (id, uuid, name, project_id, version, version_of_id, created_at, \
                 updated_at, is_system_segment, managed_by, rules_data) \
                 VALUES ($1, gen_random_uuid(), 'broken', $2, 1, $1, now(), now(), false, '', \
                 '{\"all\": [\"of\", \"it\"]}')",
                &[&id, &project],
            )
            .await?;
        world.segments.insert(id, Segment { project, form: Form::RulesData, rules: Vec::new() });
        world.unsupported.insert(id);
    }
    Ok(())
}

async fn copy_catalog(client: &Client, rng: &mut StdRng, world: &World) -> Result<(), Error> {
    let mut copy = Copy::new("organisations_organisation (id, name, stop_serving_flags, persist_trait_data)");
    for id in &world.organisations {
        copy.row(&[id, &format!("Organisation {id}"), &false, &true]);
    }
    copy.send(client).await?;

    let mut copy =
        Copy::new("projects_project (id, name, organisation_id, enable_dynamo_db, max_segments_allowed)");
    for id in &world.organisations {
        copy.row(&[id, &format!("Project {id}"), id, &false, &500]);
    }
    copy.send(client).await?;

    let mut copy = Copy::new(
        "environments_environment (id, uuid, name, project_id, api_key, use_mv_v2_evaluation, \
         use_v2_feature_versioning, is_creating, updated_at)",
    );
    for Environment { id, project, api_key, .. } in &world.environments {
        // Every 4th is one that still hashes by the identity's number.
        let composite = id % 4 != 0;
        let name = format!("Environment {id}");
        copy.row(&[id, &uuid(rng), &name, project, api_key, &composite, &true, &false, &NOW]);
    }
    copy.send(client).await?;
    copy_segments(client, rng, world).await
}

async fn copy_segments(client: &Client, rng: &mut StdRng, world: &World) -> Result<(), Error> {
    let mut copy = Copy::new(
        "segments_segment (id, uuid, name, project_id, version, version_of_id, created_at, updated_at, \
         is_system_segment, managed_by, rules_data)",
    );
    let mut rules = Copy::new("segments_segmentrule (id, uuid, type, rule_id, segment_id)");
    let mut conditions =
        Copy::new("segments_condition (id, uuid, operator, property, value, created_with_segment, rule_id)");
    let (mut rule_id, mut condition_id) = (0, 0);
    for (id, segment) in &world.segments {
        let (name, managed_by) = (format!("Segment {id}"), segment.managed_by());
        let data = segment.rules_data().map(|data| data.to_string());
        let Segment { project, rules: tree, .. } = segment;
        copy.row(&[id, &uuid(rng), &name, project, &1, id, &NOW, &NOW, &false, &managed_by, &data]);
        let mut todo: Vec<(&Rule, Option<i32>)> = tree.iter().map(|rule| (rule, None)).collect();
        while let Some((rule, parent)) = todo.pop() {
            rule_id += 1;
            let segment_id = parent.is_none().then_some(*id);
            rules.row(&[&rule_id, &uuid(rng), &rule.rule_type, &parent, &segment_id]);
            for Condition { operator, property, value } in &rule.conditions {
                condition_id += 1;
                conditions.row(&[&condition_id, &uuid(rng), operator, property, value, &true, &rule_id]);
            }
            todo.extend(rule.rules.iter().map(|sub| (sub, Some(rule_id))));
        }
    }
    copy.send(client).await?;
    rules.send(client).await?;
    conditions.send(client).await
}

async fn copy_identities(
    client: &Client,
    rng: &mut StdRng,
    scale: Scale,
    world: &mut World,
) -> Result<(), Error> {
    let mut identities =
        Copy::new("environments_identity (id, identifier, created_date, environment_id, system_traits)");
    let mut traits = Copy::new(
        "environments_trait (id, trait_key, value_type, boolean_value, integer_value, string_value, created_date, \
         identity_id, float_value)",
    );
    let cohorts: Vec<_> =
        (0..scale.segments).filter(|number| number % 11 == 10).map(segments::cohort_key).collect();
    let mut trait_id = 0;
    for number in 0..scale.identities {
        let id = number as i32 + 1;
        let Some(environment) = world.environments.get(number % scale.environments.max(1)) else { break };
        let system = match cohorts.get(rng.random_range(0..8)) {
            Some(key) => format!("{{\"{key}\": true}}"),
            None => "{}".to_owned(),
        };
        identities.row(&[&id, &format!("user-{id}"), &NOW, &environment.id, &system]);
        let first = rng.random_range(0..12);
        for offset in 0..scale.traits_per_identity {
            // Twelve known keys, from a random one on, then extra ones: no key twice.
            let key = vocabulary::key(if offset < 12 { (first + offset) % 12 } else { offset });
            let value = vocabulary::value(rng, &key);
            let (boolean, integer, string, float) = value.columns();
            trait_id += 1;
            traits.row(&[
                &trait_id,
                &key,
                &value.value_type(),
                &boolean,
                &integer,
                &string,
                &NOW,
                &id,
                &float,
            ]);
        }
        world.identities.push((id, environment.id));
        if traits.text.len() + identities.text.len() > COPY_BYTES {
            identities.send(client).await?;
            traits.send(client).await?;
        }
    }
    identities.send(client).await?;
    traits.send(client).await
}

fn uuid(rng: &mut StdRng) -> String {
    let bits: u128 = rng.random();
    let hex = format!("{bits:032x}");
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

/// What a column can be given: text, or `None` for NULL.
trait Cell {
    fn text(&self) -> Option<String>;
}
macro_rules! shown_cells {
    ($($ty:ty),*) => { $(impl Cell for $ty {
        fn text(&self) -> Option<String> {
            Some(self.to_string())
        }
    })* };
}
shown_cells!(i32, f64, bool, &str, String);
impl<T: Cell> Cell for Option<T> {
    fn text(&self) -> Option<String> {
        self.as_ref().and_then(Cell::text)
    }
}

/// Rows on their way into a table, in COPY's text format.
struct Copy {
    into: &'static str,
    text: String,
}

impl Copy {
    fn new(into: &'static str) -> Self {
        Self { into, text: String::new() }
    }

    fn row(&mut self, cells: &[&dyn Cell]) {
        for (index, cell) in cells.iter().enumerate() {
            if index > 0 {
                self.text.push('\t');
            }
            match cell.text() {
                None => self.text.push_str("\\N"),
                Some(text) => text.chars().for_each(|character| match character {
                    '\\' => self.text.push_str("\\\\"),
                    '\t' => self.text.push_str("\\t"),
                    '\n' => self.text.push_str("\\n"),
                    '\r' => self.text.push_str("\\r"),
                    other => self.text.push(other),
                }),
            }
        }
        self.text.push('\n');
    }

    async fn send(&mut self, client: &Client) -> Result<(), Error> {
        let statement = format!("COPY {} FROM STDIN", self.into);
        let sink = client.copy_in::<_, Bytes>(&statement).await?;
        let mut sink = std::pin::pin!(sink);
        sink.send(Bytes::from(std::mem::take(&mut self.text))).await?;
        sink.as_mut().finish().await?;
        Ok(())
    }
}
