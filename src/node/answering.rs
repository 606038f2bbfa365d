//! What HTTP answers from: the parts of a running node, handed to `admin`.

use std::sync::Arc;

use tokio::sync::watch;

use super::checkpointer::step_back;
use super::http;
use super::rebuild;
use super::sources;
use super::start::{NodeError, Shared, Starting};
use super::told::Told;
use crate::actors::Shards;
use crate::admin::{self, Api, Forgetting, InHand, NodeState, RenderDecisions, Sources, Streams, StreamsSetup};
use crate::backup::{Backups, Facts};
use crate::egress::write_cloud_event;
use crate::ingress::{Admission, Again, SourceMetrics};

impl Starting<'_> {
    fn backups(&self, shared: &Shared) -> Backups {
        Backups {
            facts: Facts {
                store: shared.store.clone(),
                journal: shared.journal.clone(),
                server: self.config.server.name.clone(),
            },
            root: self.config.server.backups.clone(),
            data_dir: self.config.server.data_dir.clone(),
            disk_free_min: self.limits.disk_free_min,
            is_under_way: shared.holds.backup.clone(),
            step_back,
        }
    }

    pub(super) fn api(
        &mut self,
        shared: &Shared,
        shards: &Shards,
        admission: &Arc<Admission>,
        state: watch::Receiver<NodeState>,
        (sources, sinks, told, forgetting): (Sources, admin::Sinks, Told, Forgetting),
        again: Again,
    ) -> Result<Api, NodeError> {
        let render_decisions = render_decisions(&self.config.server.name);
        let streams = Streams::new(StreamsSetup {
            journal: shared.journal.clone(),
            render: render_decisions.clone(),
            state: state.clone(),
            metrics: shared.metrics.clone(),
            limits: self.limits.clone(),
            fatal: shared.fatal.clone(),
        });
        self.runtime.spawn(streams.clone().follow(shared.committed.clone(), forgetting.doing.clone()));
        let key_bytes_max = usize::try_from(self.limits.key_bytes_max).unwrap_or(usize::MAX);
        Ok(Api {
            replay: rebuild::replays(
                &self.prepared.ruleset,
                shared.beginning.incarnation,
                (&shared.journal, &shared.store),
                key_bytes_max,
            ),
            server_name: self.config.server.name.clone(),
            admission: admission.clone(),
            decoder: sources::take_decoder(&mut self.prepared.decoders, sources::HTTP)?,
            source: SourceMetrics::new(&shared.metrics, sources::HTTP),
            shards: shards.clone(),
            pauses: shared.pauses.clone(),
            store: shared.store.clone(),
            journal: shared.journal.clone(),
            ruleset: self.prepared.ruleset.clone(),
            metrics: shared.metrics.clone(),
            tokens: self.config.server.door.all_tokens(),
            backups: self.backups(shared),
            paths: http::paths(std::mem::take(&mut self.prepared.inboxes), &shared.metrics),
            limits: self.limits.clone(),
            committed: shared.committed.clone(),
            state: state.clone(),
            fatal: shared.fatal.clone(),
            render_decisions,
            sources,
            verify: self.verifying(shared, shards, state),
            forgetting,
            streams,
            status: told.status,
            not_connected: told.not_connected,
            sinks,
            again,
            in_hand: InHand::default(),
        })
    }
}

fn render_decisions(server_name: &str) -> RenderDecisions {
    let server_name = server_name.to_owned();
    Arc::new(move |_, record| {
        let render = |decision| {
            let mut out = Vec::new();
            write_cloud_event(&mut out, &server_name, record, decision);
            out
        };
        record.decisions.iter().map(render).collect()
    })
}
