-- registry: tunings with their trials, and challenges of a champion

CREATE TABLE millrace.tunings (
	id         bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT tunings_pkey PRIMARY KEY,
	name       text COLLATE "C" NOT NULL,
	version    integer NOT NULL,
	algorithm  text NOT NULL,
	query      text NOT NULL,
	target     text NOT NULL,
	space      jsonb NOT NULL,
	options    jsonb NOT NULL DEFAULT '{}',
	search     text NOT NULL,
	metric     text NOT NULL,
	seed       bigint NOT NULL,
	rows       bigint NOT NULL,
	folds      integer NOT NULL,
	trials     integer NOT NULL,
	failed     integer NOT NULL,
	best_trial integer NOT NULL,
	best_score double precision NOT NULL,
	workers    integer NOT NULL,
	snapshot   text NOT NULL,
	seconds    double precision NOT NULL,
	tuned_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	tuned_by   text NOT NULL DEFAULT CURRENT_USER
);
CREATE INDEX tunings_name_version_idx ON millrace.tunings (name, version);
COMMENT ON TABLE millrace.tunings IS 'searches for parameters, written by tune_model(); their trials are in millrace.trials';
COMMENT ON COLUMN millrace.tunings.id IS 'which the version''s training names: models.training->''tuning''';
COMMENT ON COLUMN millrace.tunings.name IS 'model';
COMMENT ON COLUMN millrace.tunings.version IS 'version that the best trial became, trained on all rows';
COMMENT ON COLUMN millrace.tunings.algorithm IS 'algorithm';
COMMENT ON COLUMN millrace.tunings.query IS 'query that gave the rows';
COMMENT ON COLUMN millrace.tunings.target IS 'its column to predict';
COMMENT ON COLUMN millrace.tunings.space IS 'parameters and their values';
COMMENT ON COLUMN millrace.tunings.options IS 'options of the call';
COMMENT ON COLUMN millrace.tunings.search IS 'random, grid or halving';
COMMENT ON COLUMN millrace.tunings.metric IS 'what was compared: accuracy, log_loss, rmse ...';
COMMENT ON COLUMN millrace.tunings.seed IS 'seed of the search, the folds and every training';
COMMENT ON COLUMN millrace.tunings.rows IS 'rows with a target';
COMMENT ON COLUMN millrace.tunings.folds IS 'parts of the cross-validation; 1: one hold-out';
COMMENT ON COLUMN millrace.tunings.trials IS 'trials';
COMMENT ON COLUMN millrace.tunings.failed IS 'trials that ended with an error';
COMMENT ON COLUMN millrace.tunings.best_trial IS 'number of the best trial';
COMMENT ON COLUMN millrace.tunings.best_score IS 'its mean score over the folds';
COMMENT ON COLUMN millrace.tunings.workers IS 'processes that helped; they do not change the outcome';
COMMENT ON COLUMN millrace.tunings.snapshot IS 'what the query saw: pg_current_snapshot()';
COMMENT ON COLUMN millrace.tunings.seconds IS 'seconds it took, the last training included';
COMMENT ON COLUMN millrace.tunings.tuned_at IS 'when';
COMMENT ON COLUMN millrace.tunings.tuned_by IS 'role that asked';

CREATE TABLE millrace.trials (
	tuning     bigint NOT NULL,
	trial      integer NOT NULL,
	parameters jsonb NOT NULL,
	seed       bigint NOT NULL,
	state      text NOT NULL,
	rung       integer NOT NULL,
	resource   double precision,
	scores     double precision[],
	mean       double precision,
	sd         double precision,
	seconds    double precision NOT NULL,
	error      text,
	CONSTRAINT trials_pkey PRIMARY KEY (tuning, trial),
	CONSTRAINT trials_state_check CHECK (state IN ('done', 'stopped', 'failed', 'timeout'))
);
COMMENT ON TABLE millrace.trials IS 'combinations of parameters that tunings tried';
COMMENT ON COLUMN millrace.trials.tuning IS 'tuning';
COMMENT ON COLUMN millrace.trials.trial IS 'number of the trial within the tuning, from 1';
COMMENT ON COLUMN millrace.trials.parameters IS 'the parameters tried: those of the space';
COMMENT ON COLUMN millrace.trials.seed IS 'random_state of its trainings';
COMMENT ON COLUMN millrace.trials.state IS 'done; stopped: left behind by better ones (halving); failed: see error; timeout: not finished in time';
COMMENT ON COLUMN millrace.trials.rung IS 'of successive halving, from 0: how far it came';
COMMENT ON COLUMN millrace.trials.resource IS 'of successive halving: share of the rows, or the parameter''s value, at that rung';
COMMENT ON COLUMN millrace.trials.scores IS 'score of each fold';
COMMENT ON COLUMN millrace.trials.mean IS 'their mean';
COMMENT ON COLUMN millrace.trials.sd IS 'their standard deviation';
COMMENT ON COLUMN millrace.trials.seconds IS 'seconds of training and predicting';
COMMENT ON COLUMN millrace.trials.error IS 'why it failed';

CREATE TABLE millrace.challenges (
	id               bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT challenges_pkey PRIMARY KEY,
	name             text COLLATE "C" NOT NULL,
	alias            text COLLATE "C" NOT NULL,
	champion         integer,
	challenger       integer NOT NULL,
	query            text NOT NULL,
	target           text NOT NULL,
	options          jsonb NOT NULL DEFAULT '{}',
	rows             bigint NOT NULL,
	metric           text NOT NULL,
	champion_score   double precision,
	challenger_score double precision,
	gain             double precision,
	contingency      jsonb,
	test             text,
	p_value          double precision,
	gain_low         double precision,
	gain_high        double precision,
	better           boolean NOT NULL,
	promoted         boolean NOT NULL,
	reason           text NOT NULL,
	snapshot         text NOT NULL,
	seconds          double precision NOT NULL,
	decided_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	decided_by       text NOT NULL DEFAULT CURRENT_USER
);
CREATE INDEX challenges_name_idx ON millrace.challenges (name, id);
COMMENT ON TABLE millrace.challenges IS 'contests of a champion and a challenger on the same rows, written by challenge_model()';
COMMENT ON COLUMN millrace.challenges.id IS 'which the reason in millrace.alias_history names';
COMMENT ON COLUMN millrace.challenges.name IS 'model';
COMMENT ON COLUMN millrace.challenges.alias IS 'alias that was at stake';
COMMENT ON COLUMN millrace.challenges.champion IS 'version it stood for; null: for none';
COMMENT ON COLUMN millrace.challenges.challenger IS 'version that challenged';
COMMENT ON COLUMN millrace.challenges.query IS 'query that gave the rows, read once for both';
COMMENT ON COLUMN millrace.challenges.target IS 'its column with the truth';
COMMENT ON COLUMN millrace.challenges.options IS 'options of the call: the rule';
COMMENT ON COLUMN millrace.challenges.rows IS 'rows with a target';
COMMENT ON COLUMN millrace.challenges.metric IS 'what was compared';
COMMENT ON COLUMN millrace.challenges.champion_score IS 'the champion''s score';
COMMENT ON COLUMN millrace.challenges.challenger_score IS 'the challenger''s score';
COMMENT ON COLUMN millrace.challenges.gain IS 'by how much the challenger is better; negative: worse';
COMMENT ON COLUMN millrace.challenges.contingency IS 'rows that both, only the champion, only the challenger, and neither got right';
COMMENT ON COLUMN millrace.challenges.test IS 'paired test: mcnemar, mcnemar_mid_p or bootstrap';
COMMENT ON COLUMN millrace.challenges.p_value IS 'its two-sided p';
COMMENT ON COLUMN millrace.challenges.gain_low IS 'bootstrap interval of the gain, lower end';
COMMENT ON COLUMN millrace.challenges.gain_high IS 'bootstrap interval of the gain, upper end';
COMMENT ON COLUMN millrace.challenges.better IS 'whether the challenger won by the rule';
COMMENT ON COLUMN millrace.challenges.promoted IS 'whether it took the alias: not with dry_run';
COMMENT ON COLUMN millrace.challenges.reason IS 'the decision in a sentence';
COMMENT ON COLUMN millrace.challenges.snapshot IS 'what the query saw: pg_current_snapshot()';
COMMENT ON COLUMN millrace.challenges.seconds IS 'seconds it took';
COMMENT ON COLUMN millrace.challenges.decided_at IS 'when';
COMMENT ON COLUMN millrace.challenges.decided_by IS 'role that asked';

SELECT pg_catalog.pg_extension_config_dump('millrace.tunings', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.tunings_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.trials', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.challenges', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.challenges_id_seq', '');
GRANT SELECT ON millrace.tunings, millrace.trials, millrace.challenges TO millrace_user, millrace_monitor;
