#![allow(clippy::unwrap_used)]
//! What the platform and the rules make of the rows that a mixed load left in Postgres is what the reference engine
//! makes of them: catalog, images, members and the unsupported set, without the pipeline between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rollcall_kit::flagsmith::{Kind, Load, Scale, World, create_schema, populate};
use rollcall_kit::oracle;
use rollcall_model::{
    CatalogDoc, Cell, Change, EnvironmentDoc, Image, NativeId, PageGroup, Row, SegmentDoc, TableRole,
    TableSpec,
};
use rollcall_platforms::flagsmith::{IDENTITY, Mapper, TRAIT, tables};
use rollcall_rules::{CompiledSegment, Context};
use rollcall_test_servers::{PgVersion, Postgres};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, NoTls};

async fn connect(postgres: &Postgres) -> Client {
    let (client, connection) = tokio_postgres::connect(&postgres.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Every row of a table, decoded as the source does.
async fn rows(client: &Client, spec: &TableSpec) -> Vec<Row> {
    let names: Vec<&str> = spec.columns.iter().chain(spec.optional).copied().collect();
    let statement = client.prepare(&format!("SELECT {} FROM {}", names.join(", "), spec.name)).await.unwrap();
    let select: Vec<String> = statement
        .columns()
        .iter()
        .map(|column| match *column.type_() {
            Type::JSONB => format!("{}::text", column.name()),
            Type::TIMESTAMPTZ => format!("(extract(epoch FROM {}) * 1000000)::bigint", column.name()),
            _ => column.name().to_owned(),
        })
        .collect();
    let columns: Arc<[Arc<str>]> = names.iter().map(|name| Arc::from(*name)).collect();
    let found = client.query(&format!("SELECT {} FROM {}", select.join(", "), spec.name), &[]).await.unwrap();
    let types: Vec<Type> = statement.columns().iter().map(|column| column.type_().clone()).collect();
    found
        .iter()
        .map(|row| Row {
            columns: Arc::clone(&columns),
            cells: types.iter().enumerate().map(|(index, of)| cell(row, index, of)).collect(),
        })
        .collect()
}

fn cell(row: &tokio_postgres::Row, index: usize, of: &Type) -> Cell {
    let cell = match *of {
        Type::BOOL => row.get::<_, Option<bool>>(index).map(Cell::Bool),
        Type::INT4 => row.get::<_, Option<i32>>(index).map(|n| Cell::Int(i64::from(n))),
        Type::FLOAT8 => row.get::<_, Option<f64>>(index).map(Cell::Float),
        Type::JSONB => row.get::<_, Option<String>>(index).map(Cell::Json),
        Type::TIMESTAMPTZ => row.get::<_, Option<i64>>(index).map(Cell::TimestampUs),
        _ => row.get::<_, Option<String>>(index).map(Cell::Text),
    };
    cell.unwrap_or(Cell::Null)
}

/// The rows of the database as the platform reads them.
struct Whole {
    segments: Vec<SegmentDoc>,
    environments: Vec<EnvironmentDoc>,
    images: BTreeMap<i64, Image>,
}

async fn whole(client: &Client) -> Whole {
    let mut mapper = Mapper::new("core".into());
    let (mut catalog, mut identities) = (BTreeMap::new(), BTreeMap::new());
    for spec in tables() {
        let found = rows(client, &spec).await;
        match spec.role {
            TableRole::Catalog { .. } => {
                catalog.insert(Arc::from(spec.name), found);
            }
            TableRole::Identity { .. } | TableRole::IdentityPart { .. } => {
                identities.insert(spec.name, found);
            }
        }
    }
    let mut whole = Whole { segments: Vec::new(), environments: Vec::new(), images: BTreeMap::new() };
    let delta = mapper.catalog_snapshot(&catalog);
    assert_eq!(delta.rejected, []);
    for doc in delta.docs {
        match doc {
            CatalogDoc::Segment(doc) => whole.segments.push(doc),
            CatalogDoc::Environment(doc) => whole.environments.push(doc),
            CatalogDoc::Gate(_) => panic!("rows make no gate"),
        }
    }
    let mut traits: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    for row in identities.remove(TRAIT).unwrap() {
        let Some(Cell::Int(identity)) = row.get("identity_id") else { panic!("an integer") };
        traits.entry(*identity).or_default().push(row);
    }
    for row in identities.remove(IDENTITY).unwrap() {
        let Some(Cell::Int(id)) = row.get("id").cloned() else { panic!("an integer") };
        let parts = [(Arc::from(TRAIT), traits.remove(&id).unwrap_or_default())].into();
        let change = mapper.page_change(&PageGroup { id: NativeId::Int(id), identity: row, parts });
        let Change::Upsert { image } = change else {
            panic!("expected a whole image of {id}, got {change:?}")
        };
        whole.images.insert(id, image);
    }
    assert!(traits.is_empty(), "traits without an identity");
    whole
}

/// Members by (segment, environment).
type Members = BTreeMap<(i64, i64), BTreeSet<i64>>;

/// The members, and the segments that are not judged.
fn judge(whole: &Whole) -> (Members, BTreeSet<i64>) {
    let (mut members, mut unsupported) = (BTreeMap::new(), BTreeSet::new());
    let number = |text: &str| text.parse::<i64>().unwrap();
    for doc in &whole.segments {
        let segment = CompiledSegment::compile(doc);
        let segment_id = number(doc.id.as_str());
        if segment.unsupported().is_some() {
            unsupported.insert(segment_id);
            continue;
        }
        for environment in
            whole.environments.iter().filter(|environment| environment.project_id == doc.project_id)
        {
            let found: &mut BTreeSet<i64> =
                members.entry((segment_id, number(environment.id.as_str()))).or_default();
            for (id, image) in whole.images.iter().filter(|(_, image)| image.environment_id == environment.id)
            {
                let identity_key = if environment.composite_identity_key {
                    format!("{}_{}", environment.key, image.identifier)
                } else {
                    id.to_string()
                };
                let context = Context {
                    environment_key: &environment.key,
                    environment_name: &environment.name,
                    identifier: &image.identifier,
                    identity_key: &identity_key,
                    traits: &image.traits,
                    system_traits: &image.system_traits,
                    tree: None,
                };
                if segment.judge(&context).unwrap() {
                    found.insert(*id);
                }
            }
        }
    }
    (members, unsupported)
}

const SCALE: Scale = Scale {
    organisations: 3,
    environments: 7,
    segments: 60,
    identities: 700,
    traits_per_identity: 5,
    unsupported: true,
};

async fn assert_equal_to_oracle(client: &mut Client, world: &World) -> usize {
    let verdict = oracle::judge(client).await.unwrap();
    let (members, unsupported) = judge(&whole(client).await);
    assert_eq!(unsupported, world.unsupported.iter().copied().map(i64::from).collect());
    let raised: BTreeSet<i64> = verdict.raised.keys().copied().collect();
    assert!(raised.is_subset(&unsupported), "{:?}", verdict.raised);
    let expected: BTreeMap<_, _> =
        verdict.members.into_iter().filter(|((segment, _), _)| !unsupported.contains(segment)).collect();
    assert_eq!(members.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (pair, found) in &members {
        assert_eq!(found, &expected[pair], "members of (segment, environment) {pair:?}");
    }
    members.values().filter(|found| !found.is_empty()).count()
}

#[tokio::test]
async fn documents_images_and_rules_equal_the_reference_after_a_mixed_load() {
    let postgres = Postgres::start(PgVersion::V15, &[]);
    let mut client = connect(&postgres).await;
    create_schema(&client).await.unwrap();
    let world = populate(&client, SCALE, 7).await.unwrap();
    let pairs = assert_equal_to_oracle(&mut client, &world).await;
    assert!(pairs > 60, "only {pairs} (segment, environment) pairs have members: the fixture says nothing");

    let workers = (0..2).map(|worker| {
        let mut load = Load::new(&world, 7, worker, 2).with_large_rows(400);
        let postgres = &postgres;
        async move {
            let mut client = connect(postgres).await;
            for _ in 0..300 {
                load.step(&mut client).await.unwrap();
            }
            if worker == 0 {
                load.perform(Kind::EnvironmentDelete, &mut client).await.unwrap();
            }
        }
    });
    let mut workers: Vec<_> = workers.collect();
    let (second, first) = (workers.pop().unwrap(), workers.pop().unwrap());
    tokio::join!(first, second);
    assert_equal_to_oracle(&mut client, &world).await;
}

#[tokio::test]
async fn every_kind_of_write_writes_and_a_seed_repeats_it() {
    let postgres = Postgres::start(PgVersion::V15, &[]);
    let admin = connect(&postgres).await;
    let mut states = Vec::new();
    for database in ["first", "second"] {
        admin.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
        let url = postgres.url_of("postgres", "", database);
        let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        create_schema(&client).await.unwrap();
        let world = populate(&client, Scale { identities: 200, ..SCALE }, 11).await.unwrap();
        let mut load = Load::new(&world, 11, 0, 1).with_large_rows(100);
        let kinds = [
            Kind::Traits,
            Kind::Create,
            Kind::LookUp,
            Kind::Delete,
            Kind::Rename,
            Kind::SystemTraits,
            Kind::Recreate,
            Kind::Large,
            Kind::Savepoint,
            Kind::FeatureEdit,
            Kind::SegmentCreate,
            Kind::SegmentEdit,
            Kind::SegmentConditionEdit,
            Kind::SegmentRulesDataEdit,
            Kind::SegmentDelete,
            Kind::EnvironmentRename,
            Kind::EnvironmentDelete,
            Kind::TruncateTraits,
            Kind::TruncateIdentities,
        ];
        for kind in kinds {
            let mut rows = 0;
            for _ in 0..5 {
                rows += load.perform(kind, &mut client).await.unwrap().rows;
            }
            assert!(rows > 0, "{kind:?} wrote nothing");
        }
        assert_eq!(load.perform(Kind::RolledBack, &mut client).await.unwrap().rows, 0);
        let sql = "SELECT md5(string_agg(t, ';' ORDER BY t)) FROM (\
                   SELECT row(id, identifier, environment_id, system_traits)::text AS t FROM environments_identity \
                   UNION ALL SELECT row(identity_id, trait_key, value_type, boolean_value, integer_value, \
                   string_value, float_value)::text FROM environments_trait \
                   UNION ALL SELECT row(id, rules_data, version, version_of_id, deleted_at IS NULL)::text \
                   FROM segments_segment) AS all_rows (t)";
        let state: String = client.query_one(sql, &[]).await.unwrap().get(0);
        states.push(state);
    }
    assert_eq!(states[0], states[1]);
}
