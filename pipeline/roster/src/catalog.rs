//! What identities are judged by, compiled: `catalog` topic → [`Catalog`].
//!
//! The builder takes entries in the topic's order; a snapshot is cheap to share between the partitions of a worker.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rollcall_model::catalog::CatalogEntry;
use rollcall_model::{
    CatalogDoc, Cause, EnvironmentDoc, EnvironmentId, GateMode, OrganisationId, ProjectId, SegmentDoc,
    SegmentId, SourceName,
};
use rollcall_rules::CompiledSegment;

use crate::state::FillScope;

/// A segment, ready to judge.
#[derive(Debug)]
pub struct Segment {
    /// Its document.
    pub doc: SegmentDoc,
    /// Its rules.
    pub compiled: CompiledSegment,
    /// The catalog number it came with.
    pub number: u64,
    /// Who wrote it.
    pub writer: SourceName,
}

#[derive(Debug)]
struct Numbered<T> {
    doc: T,
    writer: SourceName,
    number: u64,
}

/// The catalog at one point of its topic.
#[derive(Debug, Default, Clone)]
pub struct Catalog {
    numbers: BTreeMap<SourceName, u64>,
    environments: HashMap<EnvironmentId, Arc<Numbered<EnvironmentDoc>>>,
    /// What sources call environments, where that isn't their id.
    called: HashMap<(SourceName, EnvironmentId), EnvironmentId>,
    segments: BTreeMap<SegmentId, Arc<Segment>>,
    by_project: HashMap<ProjectId, Vec<Arc<Segment>>>,
    gates: BTreeMap<Option<OrganisationId>, (Option<GateMode>, SourceName, u64)>,
}

impl Catalog {
    /// The highest number met of a writer. A roster goes on with `catalog(n)` only when this is at least n.
    #[must_use]
    pub fn number(&self, writer: &SourceName) -> u64 {
        self.numbers.get(writer).copied().unwrap_or(0)
    }

    /// Everybody who wrote to it.
    pub fn writers(&self) -> impl Iterator<Item = &SourceName> {
        self.numbers.keys()
    }

    /// An environment, deleted ones included.
    #[must_use]
    pub fn environment(&self, id: &EnvironmentId) -> Option<&EnvironmentDoc> {
        self.environments.get(id).map(|numbered| &numbered.doc)
    }

    /// The environment that a source means by a name, deleted ones included.
    #[must_use]
    pub fn environment_of(&self, source: &SourceName, name: &EnvironmentId) -> Option<&EnvironmentDoc> {
        match self.called.get(&(source.clone(), name.clone())) {
            Some(id) => self.environment(id),
            // A source that has names of its own for environments never means an id.
            None => self.environment(name).filter(|doc| !doc.called.contains_key(source)),
        }
    }

    /// Every environment.
    pub fn environments(&self) -> impl Iterator<Item = &EnvironmentDoc> {
        self.environments.values().map(|numbered| &numbered.doc)
    }

    /// A segment, deleted ones included.
    #[must_use]
    pub fn segment(&self, id: &SegmentId) -> Option<&Arc<Segment>> {
        self.segments.get(id)
    }

    /// Every segment, deleted ones included.
    pub fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.segments.values()
    }

    /// The segments judged in a project, in order of id.
    #[must_use]
    pub fn segments_of(&self, project: &ProjectId) -> &[Arc<Segment>] {
        self.by_project.get(project).map_or(&[], Vec::as_slice)
    }

    /// The gate of an organisation.
    #[must_use]
    pub fn gate(&self, organisation: &OrganisationId) -> GateMode {
        let own = self.gates.get(&Some(organisation.clone())).and_then(|gate| gate.0);
        own.or_else(|| self.gates.get(&None).and_then(|gate| gate.0)).unwrap_or_default()
    }

    /// Whether the identities of a source are judged in an environment.
    #[must_use]
    pub fn judges(&self, environment: &EnvironmentDoc, source: &SourceName) -> bool {
        let open = self.gate(&environment.organisation_id) == GateMode::On;
        open && !environment.deleted && environment.owner == *source
    }

    /// What must be judged again when `writer` goes from number `after` to `upto`, given the catalog that was judged
    /// by so far. Documents that judge as they did (a rename, a reordering of columns) ask for nothing.
    #[must_use]
    pub fn changed(&self, before: &Self, writer: &SourceName, after: u64, upto: u64) -> (FillScope, Cause) {
        let new = |w: &SourceName, number: u64| w == writer && number > after && number <= upto;
        let mut scope = FillScope::default();
        for segment in self.segments.values().filter(|s| new(&s.writer, s.number)) {
            let same =
                before.segment(&segment.doc.id).is_some_and(|old| judges_alike(&old.doc, &segment.doc));
            if !same {
                scope.segments.insert(segment.doc.id.clone());
            }
        }
        for environment in self.environments.values().filter(|e| new(&e.writer, e.number)) {
            if before.environment(&environment.doc.id) != Some(&environment.doc) {
                scope.environments.insert(environment.doc.id.clone());
            }
        }
        let mut cause = Cause::Definition;
        if self.gates.values().any(|(_, w, number)| new(w, *number)) {
            cause = Cause::Gate;
            let moved = self.environments().filter(|e| {
                before.environment(&e.id).is_none()
                    || before.gate(&e.organisation_id) != self.gate(&e.organisation_id)
            });
            scope.environments.extend(moved.map(|e| e.id.clone()));
        }
        (scope, cause)
    }

    /// Every (segment, environment) whose count exists, of the segments and environments in a scope.
    #[must_use]
    pub fn pairs(&self, scope: &FillScope) -> BTreeSet<(SegmentId, EnvironmentId)> {
        let mut pairs = BTreeSet::new();
        for environment in self.environments() {
            for segment in self.segments_of(&environment.project_id) {
                if scope.covers(&segment.doc.id, &environment.id) {
                    pairs.insert((segment.doc.id.clone(), environment.id.clone()));
                }
            }
            // A deleted segment is in no project's list, but its counts must be taken away.
            let named = scope.segments.iter().filter_map(|id| self.segment(id));
            for segment in named.filter(|s| s.doc.project_id == environment.project_id) {
                pairs.insert((segment.doc.id.clone(), environment.id.clone()));
            }
        }
        pairs
    }
}

fn judges_alike(a: &SegmentDoc, b: &SegmentDoc) -> bool {
    a.project_id == b.project_id && a.rules == b.rules && a.invalid == b.invalid && a.deleted == b.deleted
}

/// Builds the catalog from its topic.
#[derive(Debug, Default)]
pub struct CatalogBuilder {
    catalog: Catalog,
}

impl CatalogBuilder {
    /// Takes the next entry of the topic.
    pub fn apply(&mut self, entry: CatalogEntry) {
        let CatalogEntry { writer, number, doc } = entry;
        let known = self.catalog.numbers.entry(writer.clone()).or_default();
        *known = (*known).max(number);
        match doc {
            CatalogDoc::Environment(doc) => self.apply_environment(doc, writer, number),
            CatalogDoc::Gate(doc) => {
                self.catalog.gates.insert(doc.organisation_id, (doc.mode, writer, number));
            }
            CatalogDoc::Segment(doc) => self.apply_segment(doc, writer, number),
        }
    }

    fn apply_environment(&mut self, doc: EnvironmentDoc, writer: SourceName, number: u64) {
        let called = &mut self.catalog.called;
        if let Some(old) = self.catalog.environments.get(&doc.id) {
            for (source, name) in &old.doc.called {
                let name = (source.clone(), name.clone());
                // Another environment may have the name by now.
                if called.get(&name) == Some(&doc.id) {
                    called.remove(&name);
                }
            }
        }
        let names = doc.called.iter().map(|(source, name)| (source.clone(), name.clone()));
        called.extend(names.map(|name| (name, doc.id.clone())));
        self.catalog.environments.insert(doc.id.clone(), Arc::new(Numbered { doc, writer, number }));
    }

    fn apply_segment(&mut self, doc: SegmentDoc, writer: SourceName, number: u64) {
        if let Some(old) = self.catalog.segments.get(&doc.id)
            && let Some(list) = self.catalog.by_project.get_mut(&old.doc.project_id)
        {
            list.retain(|segment| segment.doc.id != doc.id);
        }
        let segment = Arc::new(Segment { compiled: CompiledSegment::compile(&doc), doc, number, writer });
        self.catalog.segments.insert(segment.doc.id.clone(), Arc::clone(&segment));
        if !segment.doc.deleted {
            let list = self.catalog.by_project.entry(segment.doc.project_id.clone()).or_default();
            let at = list.partition_point(|other| other.doc.id < segment.doc.id);
            list.insert(at, segment);
        }
    }

    /// The catalog as of the entries taken so far.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Catalog> {
        Arc::new(self.catalog.clone())
    }
}
