//! The load: a seeded mix of writes, each with the statements and commits that the platform uses for it.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, GenericClient};

use super::segments::{Segment, cohort_key};
use super::vocabulary::{self, TraitValue};
use super::{Environment, World};

/// A kind of write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// One SDK call on a known identity: up to three commits (DELETEs, UPDATEs, INSERTs); a quarter of the values
    /// change their type.
    Traits,
    /// A new identity: one commit for it, one for its traits.
    Create,
    /// An identity that was only looked up: INSERTed without traits.
    LookUp,
    /// An identity deleted with its traits.
    Delete,
    /// Its identifier changed.
    Rename,
    /// Its system traits changed: it joined or left a cohort.
    SystemTraits,
    /// Deleted and made again under the same identifier, in one transaction or two.
    Recreate,
    /// A transaction of many rows.
    Large,
    /// Writes that were rolled back.
    RolledBack,
    /// A transaction of which a part was rolled back to a savepoint.
    Savepoint,
    /// A feature edit: touches every environment row of a project and means nothing.
    FeatureEdit,
    /// A segment made, one commit per row.
    SegmentCreate,
    /// A segment edited in one transaction, with a revision of what it was.
    SegmentEdit,
    /// One condition of a segment changed.
    SegmentConditionEdit,
    /// `rules_data` changed and the rows left as they were.
    SegmentRulesDataEdit,
    /// A segment deleted, softly and in bulk.
    SegmentDelete,
    /// An environment renamed.
    EnvironmentRename,
    /// An environment deleted softly, its identities and their traits hard. Only on request.
    EnvironmentDelete,
    /// The trait table truncated and some traits inserted again, in one transaction. Only on request.
    TruncateTraits,
    /// Both tables truncated and an identity inserted, in one transaction. Only on request.
    TruncateIdentities,
}

/// Kinds with their weights.
const MIX: [(Kind, u32); 17] = [
    (Kind::Traits, 600),
    (Kind::Create, 80),
    (Kind::LookUp, 20),
    (Kind::Delete, 50),
    (Kind::Rename, 30),
    (Kind::SystemTraits, 40),
    (Kind::Recreate, 30),
    (Kind::Large, 2),
    (Kind::RolledBack, 20),
    (Kind::Savepoint, 20),
    (Kind::FeatureEdit, 10),
    (Kind::SegmentCreate, 4),
    (Kind::SegmentEdit, 4),
    (Kind::SegmentConditionEdit, 4),
    (Kind::SegmentRulesDataEdit, 3),
    (Kind::SegmentDelete, 2),
    (Kind::EnvironmentRename, 2),
];

/// What a step did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// The kind of write.
    pub kind: Kind,
    /// Rows written and committed.
    pub rows: u64,
}

/// One worker of the load. Give each its own connection.
#[derive(Debug)]
pub struct Load {
    pub(super) rng: StdRng,
    pub(super) worker: usize,
    workers: usize,
    large_rows: usize,
    identities: Vec<(i32, i32)>,
    pub(super) environments: Vec<Environment>,
    pub(super) segments: BTreeMap<i32, Segment>,
    next: usize,
}

impl Load {
    /// Worker `worker` of `workers`, counted from 0.
    #[must_use]
    pub fn new(world: &World, seed: u64, worker: usize, workers: usize) -> Self {
        let mine = |id: i32| id as usize % workers == worker;
        Self {
            rng: StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(worker as u64)),
            worker,
            workers,
            large_rows: 10_000,
            identities: world.identities.iter().filter(|(id, _)| mine(*id)).copied().collect(),
            environments: world.environments.clone(),
            segments: world
                .segments
                .iter()
                .filter(|(id, _)| mine(**id) && !world.unsupported.contains(id))
                .map(|(id, segment)| (*id, segment.clone()))
                .collect(),
            next: 0,
        }
    }

    /// Changes how many rows a [`Kind::Large`] writes.
    #[must_use]
    pub fn with_large_rows(mut self, rows: usize) -> Self {
        self.large_rows = rows;
        self
    }

    /// One write of a kind drawn from the mix.
    ///
    /// # Errors
    /// What Postgres says, but for violations that a concurrent delete causes: the platform bears these too.
    pub async fn step(&mut self, client: &mut Client) -> Result<Step, Error> {
        let total: u32 = MIX.iter().map(|(_, weight)| weight).sum();
        let mut left = self.rng.random_range(0..total);
        let mut kind = Kind::Traits;
        for (candidate, weight) in MIX {
            if left < weight {
                kind = candidate;
                break;
            }
            left -= weight;
        }
        self.perform(kind, client).await
    }

    /// One write of this kind.
    ///
    /// # Errors
    /// As [`Load::step`].
    pub async fn perform(&mut self, kind: Kind, client: &mut Client) -> Result<Step, Error> {
        match self.write(kind, client).await {
            Ok(rows) => Ok(Step { kind, rows }),
            Err(error) if is_benign(&error) => Ok(Step { kind, rows: 0 }),
            Err(error) => Err(error),
        }
    }

    async fn write(&mut self, kind: Kind, client: &mut Client) -> Result<u64, Error> {
        match kind {
            Kind::Traits => self.traits(client).await,
            Kind::Create => self.create(client, true).await,
            Kind::LookUp => self.create(client, false).await,
            Kind::Delete => self.delete(client).await,
            Kind::Rename => self.rename(client).await,
            Kind::SystemTraits => self.system_traits(client).await,
            Kind::Recreate => self.recreate(client).await,
            Kind::Large => self.large(client).await,
            Kind::RolledBack => self.rolled_back(client).await,
            Kind::Savepoint => self.savepoint(client).await,
            Kind::TruncateTraits => self.truncate(client, false).await,
            Kind::TruncateIdentities => self.truncate(client, true).await,
            Kind::FeatureEdit => self.feature_edit(client).await,
            Kind::SegmentCreate => self.segment_create(client).await,
            Kind::SegmentEdit => self.segment_edit(client).await,
            Kind::SegmentConditionEdit => self.segment_condition_edit(client).await,
            Kind::SegmentRulesDataEdit => self.segment_rules_data_edit(client).await,
            Kind::SegmentDelete => self.segment_delete(client).await,
            Kind::EnvironmentRename => self.environment_rename(client).await,
            Kind::EnvironmentDelete => self.environment_delete(client).await,
        }
    }

    /// One of its identities: where in the list, and the id.
    fn some_identity(&mut self) -> Option<(usize, i32)> {
        let index = (!self.identities.is_empty()).then(|| self.rng.random_range(0..self.identities.len()))?;
        self.identities.get(index).map(|(id, _)| (index, *id))
    }

    fn some_environment(&mut self) -> Option<i32> {
        self.environments.choose(&mut self.rng).map(|environment| environment.id)
    }

    fn some_value(&mut self, key: &str) -> TraitValue {
        if self.rng.random_bool(0.25) {
            vocabulary::any_value(&mut self.rng)
        } else {
            vocabulary::value(&mut self.rng, key)
        }
    }

    async fn traits(&mut self, client: &mut Client) -> Result<u64, Error> {
        let Some((_, id)) = self.some_identity() else { return Ok(0) };
        let present: Vec<String> = client
            .query(
                "SELECT trait_key FROM environments_trait WHERE identity_id = $1 ORDER BY trait_key",
                &[&id],
            )
            .await?
            .iter()
            .map(|row| row.get(0))
            .collect();
        let mut rows = 0;
        if self.rng.random_bool(0.2)
            && let Some(key) = present.choose(&mut self.rng)
        {
            let sql = "DELETE FROM environments_trait WHERE identity_id = $1 AND trait_key = $2";
            rows += client.execute(sql, &[&id, key]).await?;
        }
        let updates = self.rng.random_range(0..4).min(present.len());
        let transaction = client.transaction().await?;
        for key in present.iter().take(updates) {
            let value = self.some_value(key);
            rows += update_trait(&transaction, id, key, &value).await?;
        }
        transaction.commit().await?;
        let transaction = client.transaction().await?;
        for _ in 0..self.rng.random_range(0..3) {
            let key = vocabulary::some_key(&mut self.rng);
            if !present.contains(&key) {
                let value = self.some_value(&key);
                rows += insert_trait(&transaction, id, &key, &value).await?;
            }
        }
        transaction.commit().await?;
        Ok(rows)
    }

    async fn create(&mut self, client: &mut Client, traits: bool) -> Result<u64, Error> {
        let Some(environment) = self.some_environment() else { return Ok(0) };
        self.next += 1;
        let identifier = format!("user-w{}-{}", self.worker, self.next);
        let Some(id) = insert_identity(client, environment, &identifier).await? else { return Ok(0) };
        self.identities.push((id, environment));
        if !traits {
            return Ok(1);
        }
        let transaction = client.transaction().await?;
        let rows = self.insert_some_traits(&transaction, id).await?;
        transaction.commit().await?;
        Ok(1 + rows)
    }

    async fn insert_some_traits(&mut self, client: &impl GenericClient, id: i32) -> Result<u64, Error> {
        let first = self.rng.random_range(0..12);
        let count = self.rng.random_range(1..6);
        let mut rows = 0;
        for offset in 0..count {
            let key = vocabulary::key((first + offset) % 12);
            let value = self.some_value(&key);
            rows += insert_trait(client, id, &key, &value).await?;
        }
        Ok(rows)
    }

    async fn delete(&mut self, client: &mut Client) -> Result<u64, Error> {
        let Some((index, id)) = self.some_identity() else { return Ok(0) };
        let transaction = client.transaction().await?;
        let rows = delete_identity(&transaction, id).await?;
        transaction.commit().await?;
        self.identities.swap_remove(index);
        Ok(rows)
    }

    async fn rename(&mut self, client: &mut Client) -> Result<u64, Error> {
        let Some((_, id)) = self.some_identity() else { return Ok(0) };
        self.next += 1;
        let identifier = format!("user-r{}-{}", self.worker, self.next);
        client
            .execute("UPDATE environments_identity SET identifier = $2 WHERE id = $1", &[&id, &identifier])
            .await
    }

    async fn system_traits(&mut self, client: &mut Client) -> Result<u64, Error> {
        let Some((_, id)) = self.some_identity() else { return Ok(0) };
        let key = cohort_key(11 * self.rng.random_range(0..4) + 10);
        let sql = if self.rng.random_bool(0.5) {
            "UPDATE environments_identity SET system_traits = system_traits || jsonb_build_object($2::text, true) \
             WHERE id = $1"
        } else {
            "UPDATE environments_identity SET system_traits = system_traits - $2::text WHERE id = $1"
        };
        client.execute(sql, &[&id, &key]).await
    }

    async fn recreate(&mut self, client: &mut Client) -> Result<u64, Error> {
        let Some((index, id)) = self.some_identity() else { return Ok(0) };
        let sql = "SELECT identifier, environment_id FROM environments_identity WHERE id = $1";
        let Some(row) = client.query_opt(sql, &[&id]).await? else {
            self.identities.swap_remove(index);
            return Ok(0);
        };
        let (identifier, environment): (String, i32) = (row.get(0), row.get(1));
        let together = self.rng.random_bool(0.5);
        self.identities.swap_remove(index);
        let mut transaction = client.transaction().await?;
        let mut rows = delete_identity(&transaction, id).await?;
        if !together {
            transaction.commit().await?;
            transaction = client.transaction().await?;
        }
        let Some(id) = insert_identity(&transaction, environment, &identifier).await? else {
            return Ok(rows);
        };
        rows += 1 + self.insert_some_traits(&transaction, id).await?;
        transaction.commit().await?;
        self.identities.push((id, environment));
        Ok(rows)
    }

    /// Half updates of traits that are there, half new identities with one trait each.
    async fn large(&mut self, client: &mut Client) -> Result<u64, Error> {
        let Some(environment) = self.some_environment() else { return Ok(0) };
        let (worker, workers) = (self.worker as i32, self.workers as i32);
        let half = self.large_rows as i64 / 2;
        let shift = self.rng.random_range(0..100);
        self.next += 1;
        let prefix = format!("user-l{}-{}-", self.worker, self.next);
        let transaction = client.transaction().await?;
        let mut rows = transaction
            .execute(
                "UPDATE environments_trait SET value_type = 'int', integer_value = (identity_id + $4) % 80 \
                 WHERE id IN (SELECT id FROM environments_trait WHERE identity_id % $1 = $2 \
                 AND trait_key IN ('age', 'logins') ORDER BY id LIMIT $3)",
                &[&workers, &worker, &half, &shift],
            )
            .await?;
        let made = transaction
            .query(
                "INSERT INTO environments_identity (identifier, created_date, environment_id, system_traits) \
                 SELECT $1::text || n, now(), $2, '{}' FROM generate_series(1, $3::bigint) AS n RETURNING id",
                &[&prefix, &environment, &(half / 2)],
            )
            .await?;
        let ids: Vec<i32> = made.iter().map(|row| row.get(0)).collect();
        rows += ids.len() as u64;
        rows += transaction
            .execute(
                "INSERT INTO environments_trait (trait_key, value_type, integer_value, created_date, identity_id) \
                 SELECT 'age', 'int', (id + $2) % 80, now(), id FROM unnest($1::int[]) AS id",
                &[&ids, &shift],
            )
            .await?;
        transaction.commit().await?;
        self.identities.extend(ids.into_iter().map(|id| (id, environment)));
        Ok(rows)
    }

    async fn rolled_back(&mut self, client: &mut Client) -> Result<u64, Error> {
        let Some((_, id)) = self.some_identity() else { return Ok(0) };
        let Some(environment) = self.some_environment() else { return Ok(0) };
        let transaction = client.transaction().await?;
        delete_identity(&transaction, id).await?;
        if let Some(id) = insert_identity(&transaction, environment, "never").await? {
            self.insert_some_traits(&transaction, id).await?;
        }
        transaction.rollback().await?;
        Ok(0)
    }

    async fn savepoint(&mut self, client: &mut Client) -> Result<u64, Error> {
        let Some((_, id)) = self.some_identity() else { return Ok(0) };
        let (before, never) = (self.some_value("plan"), self.some_value("plan"));
        let mut transaction = client.transaction().await?;
        let mut rows = update_trait(&transaction, id, "plan", &before).await?;
        let savepoint = transaction.transaction().await?;
        update_trait(&savepoint, id, "plan", &never).await?;
        delete_identity(&savepoint, id).await?;
        savepoint.rollback().await?;
        let after = self.some_value("age");
        rows += update_trait(&transaction, id, "age", &after).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    async fn truncate(&mut self, client: &mut Client, identities: bool) -> Result<u64, Error> {
        let Some(environment) = self.some_environment() else { return Ok(0) };
        let transaction = client.transaction().await?;
        let id = if identities {
            transaction.batch_execute("TRUNCATE environments_identity, environments_trait").await?;
            insert_identity(&transaction, environment, "after-truncate").await?
        } else {
            transaction.batch_execute("TRUNCATE environments_trait").await?;
            self.some_identity().map(|(_, id)| id)
        };
        let mut rows = 0;
        if let Some(id) = id {
            rows = self.insert_some_traits(&transaction, id).await?;
        }
        transaction.commit().await?;
        if identities {
            self.identities = id.map(|id| (id, environment)).into_iter().collect();
        }
        Ok(rows)
    }

    /// Forgets the identities of an environment that is gone.
    pub(super) fn forget_environment(&mut self, id: i32) {
        self.environments.retain(|environment| environment.id != id);
        self.identities.retain(|(_, environment)| *environment != id);
    }
}

/// A row or its parent went at the same time through another connection.
fn is_benign(error: &Error) -> bool {
    error
        .code()
        .is_some_and(|code| *code == SqlState::FOREIGN_KEY_VIOLATION || *code == SqlState::UNIQUE_VIOLATION)
}

/// `None` when the identifier is taken, as the platform's get-or-create sees it.
async fn insert_identity(
    client: &impl GenericClient,
    environment: i32,
    identifier: &str,
) -> Result<Option<i32>, Error> {
    let row = client
        .query_opt(
            "INSERT INTO environments_identity (identifier, created_date, environment_id, system_traits) \
             VALUES ($1, now(), $2, '{}') ON CONFLICT DO NOTHING RETURNING id",
            &[&identifier, &environment],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// The platform deletes what hangs on a row before the row.
async fn delete_identity(client: &impl GenericClient, id: i32) -> Result<u64, Error> {
    let traits = client.execute("DELETE FROM environments_trait WHERE identity_id = $1", &[&id]).await?;
    Ok(traits + client.execute("DELETE FROM environments_identity WHERE id = $1", &[&id]).await?)
}

async fn insert_trait(
    client: &impl GenericClient,
    id: i32,
    key: &str,
    value: &TraitValue,
) -> Result<u64, Error> {
    let (boolean, integer, string, float) = value.columns();
    client
        .execute(
            "INSERT INTO environments_trait (trait_key, value_type, boolean_value, integer_value, string_value, \
             created_date, identity_id, float_value) VALUES ($1, $2, $3, $4, $5, now(), $6, $7) \
             ON CONFLICT DO NOTHING",
            &[&key, &value.value_type(), &boolean, &integer, &string, &id, &float],
        )
        .await
}

/// Sets the column of the new type and leaves what the other columns held.
async fn update_trait(
    client: &impl GenericClient,
    id: i32,
    key: &str,
    value: &TraitValue,
) -> Result<u64, Error> {
    let (boolean, integer, string, float) = value.columns();
    client
        .execute(
            "UPDATE environments_trait SET value_type = $3, boolean_value = coalesce($4, boolean_value), \
             integer_value = coalesce($5, integer_value), string_value = coalesce($6, string_value), \
             float_value = coalesce($7, float_value) WHERE identity_id = $1 AND trait_key = $2",
            &[&id, &key, &value.value_type(), &boolean, &integer, &string, &float],
        )
        .await
}
