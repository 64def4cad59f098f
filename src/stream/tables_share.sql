-- stream: which partitions of a shared topic are this server's (docs/sharing.md)
--
-- One row a partition that a source with option control_topic reads, gives or was taken.  Functions write what is asked for,
-- workers what the control topic says.

CREATE TABLE millrace.source_shares (
	source       text NOT NULL,
	partition    int NOT NULL CHECK (partition >= 0),
	state        text NOT NULL DEFAULT 'taking' CHECK (state IN ('taking', 'owned', 'releasing', 'released', 'lost')),
	epoch        bigint NOT NULL DEFAULT 0,
	start_offset bigint,
	identity     text,
	claim_epoch  bigint NOT NULL DEFAULT 0,
	claim_offset bigint,
	take_over    boolean NOT NULL DEFAULT false,
	from_offset  bigint,
	accept_duplicates boolean NOT NULL DEFAULT false,
	held_by      text,
	reason       text,
	doubled      int8range,
	missing      int8range,
	since        timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (source, partition)
);
COMMENT ON TABLE millrace.source_shares IS 'partitions of a topic that several database servers share: what this server holds, takes, has given or has lost';
COMMENT ON COLUMN millrace.source_shares.source IS 'source';
COMMENT ON COLUMN millrace.source_shares.partition IS 'partition of its topic';
COMMENT ON COLUMN millrace.source_shares.state IS 'taking: asked for, not ours yet, reason says why; owned; releasing: given up, the control topic does not say so yet; released; lost: another server took it';
COMMENT ON COLUMN millrace.source_shares.epoch IS 'of our tenure in the control topic; the highest is the owner''s';
COMMENT ON COLUMN millrace.source_shares.start_offset IS 'where our tenure began';
COMMENT ON COLUMN millrace.source_shares.identity IS 'as whom we claimed it: database, timeline and source';
COMMENT ON COLUMN millrace.source_shares.claim_epoch IS 'epoch that we claimed last, or are about to claim';
COMMENT ON COLUMN millrace.source_shares.claim_offset IS 'where that tenure begins, while it is not known that it is ours';
COMMENT ON COLUMN millrace.source_shares.take_over IS 'take_over asked for it: its owner''s silence is enough';
COMMENT ON COLUMN millrace.source_shares.from_offset IS 'offset given to take_over';
COMMENT ON COLUMN millrace.source_shares.accept_duplicates IS 'without one, begin at the owner''s last word';
COMMENT ON COLUMN millrace.source_shares.held_by IS 'who holds it according to the control topic';
COMMENT ON COLUMN millrace.source_shares.reason IS 'what it waits for, or who took it';
COMMENT ON COLUMN millrace.source_shares.doubled IS 'offsets that may be rows here and at another server too';
COMMENT ON COLUMN millrace.source_shares.missing IS 'offsets before the other server''s first that are no rows here';
COMMENT ON COLUMN millrace.source_shares.since IS 'when it entered the state';
GRANT SELECT ON millrace.source_shares TO millrace_admin, millrace_monitor;
SELECT pg_catalog.pg_extension_config_dump('millrace.source_shares', '');
