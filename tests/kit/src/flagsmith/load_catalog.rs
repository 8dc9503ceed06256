//! The load's writes to environments and segments.

use rand::RngExt;
use rand::seq::IteratorRandom;
use tokio_postgres::{Client, Error, GenericClient};

use super::load::Load;
use super::segments::{self, Condition, Form, Rule, Segment, to_json};

impl Load {
    fn some_segment(&mut self) -> Option<i32> {
        self.segments.keys().copied().choose(&mut self.rng)
    }

    fn some_project(&mut self) -> Option<i32> {
        self.environments.iter().map(|environment| environment.project).choose(&mut self.rng)
    }

    pub(super) async fn feature_edit(&mut self, client: &mut Client) -> Result<u64, Error> {
        match self.some_project() {
            Some(project) => touch(client, project).await,
            None => Ok(0),
        }
    }

    /// One commit for the segment with `rules_data` complete, then one per rule and condition, depth first, a rule's
    /// own conditions last.
    pub(super) async fn segment_create(&mut self, client: &mut Client) -> Result<u64, Error> {
        let Some(project) = self.some_project() else { return Ok(0) };
        let number = self.rng.random_range(0..1000);
        let segment = segments::segment(&mut self.rng, number, project);
        let transaction = client.transaction().await?;
        let id = insert_segment(&transaction, &segment, 0).await?;
        transaction
            .execute("UPDATE segments_segment SET version_of_id = id, version = 1 WHERE id = $1", &[&id])
            .await?;
        if segment.form == Form::Cohort {
            insert_rules(&transaction, id, &segment.rules).await?;
        }
        transaction.commit().await?;
        let mut rows = 1;
        if segment.form != Form::Cohort {
            rows += insert_rules(client, id, &segment.rules).await?;
        }
        rows += touch(client, project).await?;
        self.segments.insert(id, segment);
        Ok(rows)
    }

    /// One transaction: a revision with what was, the canonical row twice, rows replaced, the revision linked at last.
    pub(super) async fn segment_edit(&mut self, client: &mut Client) -> Result<u64, Error> {
        let Some(id) = self.some_segment() else { return Ok(0) };
        let Some(old) = self.segments.get(&id).cloned() else { return Ok(0) };
        if old.form == Form::Cohort {
            return Ok(0);
        }
        let number = self.rng.random_range(0..10);
        let fresh = segments::segment(&mut self.rng, number, old.project);
        let new = Segment { form: old.form, ..fresh };
        let data = new.rules_data();
        let transaction = client.transaction().await?;
        let revision = insert_segment(&transaction, &old, 0).await?;
        insert_rules(&transaction, revision, &old.rules).await?;
        transaction
            .execute(
                "UPDATE segments_segment SET version = version + 1, updated_at = now() WHERE id = $1",
                &[&id],
            )
            .await?;
        soft_delete_rules(&transaction, id).await?;
        let rows = insert_rules(&transaction, id, &new.rules).await?;
        transaction
            .execute(
                "UPDATE segments_segment SET rules_data = $2, updated_at = now() WHERE id = $1",
                &[&id, &data],
            )
            .await?;
        transaction
            .execute(
                "UPDATE segments_segment SET version_of_id = $1, version = 1 WHERE id = $2",
                &[&id, &revision],
            )
            .await?;
        transaction.commit().await?;
        touch(client, new.project).await?;
        self.segments.insert(id, new);
        Ok(rows + 4)
    }

    /// The operand of one condition, in `rules_data` and in its row.
    pub(super) async fn segment_condition_edit(&mut self, client: &mut Client) -> Result<u64, Error> {
        let Some(id) = self.some_segment() else { return Ok(0) };
        let value = self.rng.random_range(20..60).to_string();
        let Some(segment) = self.segments.get_mut(&id) else { return Ok(0) };
        let Some(condition) = first_condition(&mut segment.rules).filter(|condition| {
            !matches!(condition.operator, "IS_SET" | "IS_NOT_SET" | "MODULO") && condition.value.is_some()
        }) else {
            return Ok(0);
        };
        let before = condition.value.replace(value.clone());
        let (operator, project) = (condition.operator, segment.project);
        let data = segment.rules_data();
        let transaction = client.transaction().await?;
        let rows = transaction
            .execute(
                "WITH RECURSIVE tree AS (SELECT id FROM segments_segmentrule WHERE segment_id = $1 \
                 AND deleted_at IS NULL UNION ALL SELECT r.id FROM segments_segmentrule r \
                 JOIN tree ON r.rule_id = tree.id WHERE r.deleted_at IS NULL) \
                 UPDATE segments_condition SET value = $4 WHERE id = (SELECT c.id FROM segments_condition c \
                 WHERE c.rule_id IN (SELECT id FROM tree) AND c.deleted_at IS NULL \
                 AND c.operator = $2 AND c.value = $3 ORDER BY c.id LIMIT 1)",
                &[&id, &operator, &before, &value],
            )
            .await?;
        if data.is_some() {
            let sql = "UPDATE segments_segment SET rules_data = $2, version = version + 1 WHERE id = $1";
            transaction.execute(sql, &[&id, &data]).await?;
        }
        transaction.commit().await?;
        touch(client, project).await?;
        Ok(rows)
    }

    /// What the platform will do once it no longer writes the rows.
    pub(super) async fn segment_rules_data_edit(&mut self, client: &mut Client) -> Result<u64, Error> {
        let Some(id) = self.some_segment() else { return Ok(0) };
        let number = self.rng.random_range(0..10);
        let Some(project) =
            self.segments.get(&id).filter(|old| old.form == Form::RulesData).map(|old| old.project)
        else {
            return Ok(0);
        };
        let fresh = segments::segment(&mut self.rng, number, project);
        let new = Segment { form: Form::RulesData, ..fresh };
        let sql = "UPDATE segments_segment SET rules_data = $2, updated_at = now() WHERE id = $1";
        let rows = client.execute(sql, &[&id, &to_json(&new.rules)]).await?;
        touch(client, project).await?;
        self.segments.insert(id, new);
        Ok(rows)
    }

    /// Softly and in bulk: all versions, their rules, their conditions.
    pub(super) async fn segment_delete(&mut self, client: &mut Client) -> Result<u64, Error> {
        if self.segments.len() < 5 {
            return Ok(0);
        }
        let Some(id) = self.some_segment() else { return Ok(0) };
        let transaction = client.transaction().await?;
        let mut rows = transaction
            .execute("UPDATE segments_segment SET deleted_at = now() WHERE version_of_id = $1", &[&id])
            .await?;
        rows += soft_delete_rules(&transaction, id).await?;
        transaction.commit().await?;
        let project = self.segments.remove(&id).map(|segment| segment.project);
        touch(client, project.unwrap_or_default()).await?;
        Ok(rows)
    }

    /// The platform UPDATEs the row twice.
    pub(super) async fn environment_rename(&mut self, client: &mut Client) -> Result<u64, Error> {
        let worker = self.worker;
        let Some(id) = self.environments.iter().map(|environment| environment.id).choose(&mut self.rng)
        else {
            return Ok(0);
        };
        // Back and forth, so that a condition on the name matches again.
        let name =
            if self.rng.random_bool(0.5) { "Environment 1".to_owned() } else { format!("Renamed {worker}") };
        let transaction = client.transaction().await?;
        let sql = "UPDATE environments_environment SET name = $2, updated_at = now() WHERE id = $1";
        transaction.execute(sql, &[&id, &name]).await?;
        let sql = "UPDATE environments_environment SET updated_at = now() WHERE id = $1";
        transaction.execute(sql, &[&id]).await?;
        transaction.commit().await?;
        Ok(2)
    }

    /// The row softly, before its identities and their traits for good, in one transaction. The last two stay.
    pub(super) async fn environment_delete(&mut self, client: &mut Client) -> Result<u64, Error> {
        if self.environments.len() <= 2 {
            return Ok(0);
        }
        let Some(id) = self.environments.iter().map(|environment| environment.id).choose(&mut self.rng)
        else {
            return Ok(0);
        };
        let transaction = client.transaction().await?;
        let sql = "UPDATE environments_environment SET deleted_at = now() WHERE id = $1";
        let mut rows = transaction.execute(sql, &[&id]).await?;
        let sql = "DELETE FROM environments_trait WHERE identity_id IN \
                   (SELECT id FROM environments_identity WHERE environment_id = $1)";
        rows += transaction.execute(sql, &[&id]).await?;
        let sql = "DELETE FROM environments_identity WHERE environment_id = $1";
        rows += transaction.execute(sql, &[&id]).await?;
        transaction.commit().await?;
        self.forget_environment(id);
        Ok(rows)
    }
}

/// The audit log's trace: every environment of the project is touched and none of them changes.
async fn touch(client: &impl GenericClient, project: i32) -> Result<u64, Error> {
    let sql = "INSERT INTO audit_auditlog (created_date, log, project_id) VALUES (now(), 'edited', $1)";
    client.execute(sql, &[&project]).await?;
    let sql = "UPDATE environments_environment SET updated_at = now() WHERE project_id = $1";
    client.execute(sql, &[&project]).await
}

/// As a revision or a segment that is being made: pointing nowhere.
async fn insert_segment(client: &impl GenericClient, segment: &Segment, version: i32) -> Result<i32, Error> {
    let Segment { project, .. } = segment;
    let row = client
        .query_one(
            "INSERT INTO segments_segment (uuid, name, project_id, version, created_at, updated_at, \
             is_system_segment, managed_by, rules_data) \
             VALUES (gen_random_uuid(), 'made by the load', $1, $2, now(), now(), false, $3, $4) RETURNING id",
            &[project, &version, &segment.managed_by(), &segment.rules_data()],
        )
        .await?;
    Ok(row.get(0))
}

/// What is still to be inserted: a rule below a rule, or the conditions of a rule whose sub-rules are there.
enum Todo<'a> {
    Rule(&'a Rule, Option<i32>),
    Conditions(&'a [Condition], i32),
}

/// Depth first, a rule's own conditions last; each statement commits by itself unless `client` is a transaction.
async fn insert_rules(client: &impl GenericClient, segment: i32, rules: &[Rule]) -> Result<u64, Error> {
    let mut todo: Vec<Todo<'_>> = rules.iter().rev().map(|rule| Todo::Rule(rule, None)).collect();
    let mut rows = 0;
    while let Some(next) = todo.pop() {
        match next {
            Todo::Rule(rule, parent) => {
                let sql = "INSERT INTO segments_segmentrule (uuid, type, rule_id, segment_id) \
                           VALUES (gen_random_uuid(), $1, $2, $3) RETURNING id";
                let under = parent.is_none().then_some(segment);
                let id: i32 = client.query_one(sql, &[&rule.rule_type, &parent, &under]).await?.get(0);
                todo.push(Todo::Conditions(&rule.conditions, id));
                todo.extend(rule.rules.iter().rev().map(|sub| Todo::Rule(sub, Some(id))));
                rows += 1;
            }
            Todo::Conditions(conditions, id) => {
                for Condition { operator, property, value } in conditions {
                    let sql = "INSERT INTO segments_condition (uuid, operator, property, value, \
                               created_with_segment, rule_id) VALUES (gen_random_uuid(), $1, $2, $3, true, $4)";
                    rows += client.execute(sql, &[operator, property, value, &id]).await?;
                }
            }
        }
    }
    Ok(rows)
}

async fn soft_delete_rules(client: &impl GenericClient, segment: i32) -> Result<u64, Error> {
    let tree = "WITH RECURSIVE tree AS (SELECT id FROM segments_segmentrule WHERE segment_id = $1 UNION ALL \
                SELECT r.id FROM segments_segmentrule r JOIN tree ON r.rule_id = tree.id)";
    let conditions = format!(
        "{tree} UPDATE segments_condition SET deleted_at = now() WHERE rule_id IN (SELECT id FROM tree) \
         AND deleted_at IS NULL"
    );
    let rules = format!(
        "{tree} UPDATE segments_segmentrule SET deleted_at = now() WHERE id IN (SELECT id FROM tree) \
         AND deleted_at IS NULL"
    );
    Ok(client.execute(&conditions, &[&segment]).await? + client.execute(&rules, &[&segment]).await?)
}

/// The first condition of the tree, from the top.
fn first_condition(rules: &mut [Rule]) -> Option<&mut Condition> {
    rules.iter_mut().find_map(|rule| {
        let Rule { conditions, rules, .. } = rule;
        conditions.first_mut().or_else(|| first_condition(rules))
    })
}
