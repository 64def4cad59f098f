-- registry: monitors of columns, what they saw, and what runs at a given time
--
-- As in tables.sql: written by functions only, no foreign keys.

CREATE TABLE millrace.monitors (
	name         text COLLATE "C" NOT NULL CONSTRAINT monitors_pkey PRIMARY KEY,
	owner        text NOT NULL,
	query        text NOT NULL,
	options      jsonb NOT NULL DEFAULT '{}',
	columns      jsonb NOT NULL,
	reference    text,
	search_path  text NOT NULL,
	first_window timestamptz,
	windows      integer NOT NULL DEFAULT 0,
	created_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	last_run     timestamptz,
	CONSTRAINT monitors_name_check CHECK (pg_catalog.octet_length(name) BETWEEN 1 AND 128),
	CONSTRAINT monitors_windows_check CHECK (windows OPERATOR(pg_catalog.>=) 0)
);
COMMENT ON TABLE millrace.monitors IS 'queries whose columns are watched, window by window; see create_monitor()';
COMMENT ON COLUMN millrace.monitors.name IS 'name of the monitor';
COMMENT ON COLUMN millrace.monitors.owner IS 'role that created it: its queries run with the rights of this role';
COMMENT ON COLUMN millrace.monitors.query IS 'query that gives the rows';
COMMENT ON COLUMN millrace.monitors.options IS 'options of create_monitor()';
COMMENT ON COLUMN millrace.monitors.columns IS 'columns watched, as they were when the monitor was created';
COMMENT ON COLUMN millrace.monitors.reference IS 'query of the reference rows, where they are fixed and not a period of the query';
COMMENT ON COLUMN millrace.monitors.search_path IS 'search_path under which its queries run';
COMMENT ON COLUMN millrace.monitors.first_window IS 'begin of window 0; null until a run found a row';
COMMENT ON COLUMN millrace.monitors.windows IS 'windows done: the next run begins with the window of this number';
COMMENT ON COLUMN millrace.monitors.created_at IS 'when it was created';
COMMENT ON COLUMN millrace.monitors.last_run IS 'when run_monitor() last did anything';

CREATE TABLE millrace.monitor_sketches (
	monitor     text COLLATE "C" NOT NULL,
	window_no   integer NOT NULL,
	column_name text COLLATE "C" NOT NULL,
	sketch      millrace.sketch NOT NULL,
	CONSTRAINT monitor_sketches_pkey PRIMARY KEY (monitor, window_no, column_name)
);
COMMENT ON TABLE millrace.monitor_sketches IS 'what each column looked like in each window: comparisons read these, never the rows again';
COMMENT ON COLUMN millrace.monitor_sketches.monitor IS 'monitor';
COMMENT ON COLUMN millrace.monitor_sketches.window_no IS 'window, from 0; -1: the reference';
COMMENT ON COLUMN millrace.monitor_sketches.column_name IS 'column; elements of an array are name_1, name_2, ...';
COMMENT ON COLUMN millrace.monitor_sketches.sketch IS 'sketch of its values: millrace.describe(sketch)';

CREATE TABLE millrace.drift (
	monitor           text COLLATE "C" NOT NULL,
	window_no         integer NOT NULL,
	column_name       text COLLATE "C" NOT NULL,
	window_start      timestamptz NOT NULL,
	window_end        timestamptz NOT NULL,
	role              text NOT NULL,
	kind              text NOT NULL,
	rows              bigint NOT NULL,
	reference_rows    bigint NOT NULL,
	psi               double precision,
	jensen_shannon    double precision,
	ks                double precision,
	ks_p              double precision,
	shift             double precision,
	shift_p           double precision,
	mean_shift        double precision,
	sd_ratio          double precision,
	chi2              double precision,
	chi2_p            double precision,
	missing           double precision,
	reference_missing double precision,
	missing_p         double precision,
	new_share         double precision,
	new_p             double precision,
	new_categories    text[],
	p                 double precision,
	adjusted_p        double precision,
	alarm             boolean NOT NULL,
	reason            text,
	compared_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	CONSTRAINT drift_pkey PRIMARY KEY (monitor, window_no, column_name),
	CONSTRAINT drift_role_check CHECK (role IN ('feature', 'prediction')),
	CONSTRAINT drift_kind_check CHECK (kind IN ('number', 'category'))
);
COMMENT ON TABLE millrace.drift IS 'each column in each window against the reference, written by run_monitor(); figures are null where they have no meaning';
COMMENT ON COLUMN millrace.drift.monitor IS 'monitor';
COMMENT ON COLUMN millrace.drift.window_no IS 'window, from 0';
COMMENT ON COLUMN millrace.drift.column_name IS 'column; elements of an array are name_1, name_2, ...';
COMMENT ON COLUMN millrace.drift.window_start IS 'begin of the window, included';
COMMENT ON COLUMN millrace.drift.window_end IS 'end of the window, not included';
COMMENT ON COLUMN millrace.drift.role IS 'feature, or prediction: a column of option prediction';
COMMENT ON COLUMN millrace.drift.kind IS 'number or category';
COMMENT ON COLUMN millrace.drift.rows IS 'rows of the window';
COMMENT ON COLUMN millrace.drift.reference_rows IS 'rows of the reference; 0: there is none yet';
COMMENT ON COLUMN millrace.drift.psi IS 'population stability index';
COMMENT ON COLUMN millrace.drift.jensen_shannon IS 'Jensen-Shannon distance, 0 to 1';
COMMENT ON COLUMN millrace.drift.ks IS 'Kolmogorov-Smirnov statistic';
COMMENT ON COLUMN millrace.drift.ks_p IS 'its p';
COMMENT ON COLUMN millrace.drift.shift IS 'shift in standard deviations, by ranks';
COMMENT ON COLUMN millrace.drift.shift_p IS 'p of the Mann-Whitney test';
COMMENT ON COLUMN millrace.drift.mean_shift IS 'difference of the means in standard deviations of the reference';
COMMENT ON COLUMN millrace.drift.sd_ratio IS 'standard deviation over that of the reference';
COMMENT ON COLUMN millrace.drift.chi2 IS 'chi-squared over categories or bins';
COMMENT ON COLUMN millrace.drift.chi2_p IS 'its p';
COMMENT ON COLUMN millrace.drift.missing IS 'share of rows without a value';
COMMENT ON COLUMN millrace.drift.reference_missing IS 'the same in the reference';
COMMENT ON COLUMN millrace.drift.missing_p IS 'p that both shares are one';
COMMENT ON COLUMN millrace.drift.new_share IS 'share of values whose category the reference lacks; null where its categories are not all known';
COMMENT ON COLUMN millrace.drift.new_p IS 'p of so many, given how many categories of the reference came only once';
COMMENT ON COLUMN millrace.drift.new_categories IS 'at most 20 of them, most frequent first';
COMMENT ON COLUMN millrace.drift.p IS 'least p of the tests that may raise an alarm: ks, shift, missing of numbers; chi2, missing, new of categories';
COMMENT ON COLUMN millrace.drift.adjusted_p IS 'the least after correction for all tests of the window';
COMMENT ON COLUMN millrace.drift.alarm IS 'whether an adjusted p is at most alpha and its effect at least the threshold';
COMMENT ON COLUMN millrace.drift.reason IS 'what raised the alarm, or why none could be raised';
COMMENT ON COLUMN millrace.drift.compared_at IS 'when the row was written';

CREATE TABLE millrace.monitor_performance (
	monitor           text COLLATE "C" NOT NULL,
	window_no         integer NOT NULL,
	window_start      timestamptz,
	window_end        timestamptz,
	rows              bigint NOT NULL,
	labelled          bigint NOT NULL,
	accuracy          double precision,
	f1_macro          double precision,
	baseline_accuracy double precision,
	p                 double precision,
	alarm             boolean NOT NULL,
	reason            text,
	final             boolean NOT NULL,
	measured_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
	CONSTRAINT monitor_performance_pkey PRIMARY KEY (monitor, window_no)
);
COMMENT ON TABLE millrace.monitor_performance IS 'how right the predictions of a window were, as far as labels have arrived';
COMMENT ON COLUMN millrace.monitor_performance.monitor IS 'monitor';
COMMENT ON COLUMN millrace.monitor_performance.window_no IS 'window, from 0; -1: the reference';
COMMENT ON COLUMN millrace.monitor_performance.window_start IS 'begin of the window, included';
COMMENT ON COLUMN millrace.monitor_performance.window_end IS 'end of the window, not included';
COMMENT ON COLUMN millrace.monitor_performance.rows IS 'rows with a prediction';
COMMENT ON COLUMN millrace.monitor_performance.labelled IS 'of them, those with a label';
COMMENT ON COLUMN millrace.monitor_performance.accuracy IS 'share of those predicted right';
COMMENT ON COLUMN millrace.monitor_performance.f1_macro IS 'mean F1 of the classes';
COMMENT ON COLUMN millrace.monitor_performance.baseline_accuracy IS 'accuracy of the reference, else of the windows before that raised no alarm';
COMMENT ON COLUMN millrace.monitor_performance.p IS 'p of an accuracy so low if it were the baseline''s (two proportions, one-sided)';
COMMENT ON COLUMN millrace.monitor_performance.alarm IS 'whether p is at most alpha and the loss at least the threshold';
COMMENT ON COLUMN millrace.monitor_performance.reason IS 'what raised the alarm, or why none could be raised';
COMMENT ON COLUMN millrace.monitor_performance.final IS 'all labels are there, or label_delay is over: not measured again';
COMMENT ON COLUMN millrace.monitor_performance.measured_at IS 'when it was last measured';

CREATE TABLE millrace.schedules (
	name       text COLLATE "C" NOT NULL,
	kind       text NOT NULL,
	owner      text NOT NULL,
	command    text,
	every      interval NOT NULL,
	next_run   timestamptz NOT NULL,
	search_path text NOT NULL,
	last_run   timestamptz,
	last_error text,
	failures   integer NOT NULL DEFAULT 0,
	CONSTRAINT schedules_pkey PRIMARY KEY (kind, name),
	CONSTRAINT schedules_name_check CHECK (pg_catalog.octet_length(name) BETWEEN 1 AND 128),
	CONSTRAINT schedules_kind_check CHECK (kind IN ('monitor', 'sql')),
	CONSTRAINT schedules_command_check CHECK ((kind OPERATOR(pg_catalog.=) 'sql') = (command IS NOT NULL))
);
COMMENT ON TABLE millrace.schedules IS 'what run_due() runs: monitors, and statements of create_schedule()';
COMMENT ON COLUMN millrace.schedules.name IS 'name: the monitor''s, or the one given';
COMMENT ON COLUMN millrace.schedules.kind IS 'monitor, or sql';
COMMENT ON COLUMN millrace.schedules.owner IS 'role whose rights it runs with';
COMMENT ON COLUMN millrace.schedules.command IS 'the statement, of kind sql';
COMMENT ON COLUMN millrace.schedules.every IS 'time between two runs';
COMMENT ON COLUMN millrace.schedules.next_run IS 'when it is due; times missed are run once';
COMMENT ON COLUMN millrace.schedules.search_path IS 'search_path of the statement';
COMMENT ON COLUMN millrace.schedules.last_run IS 'when it last ran, well or not';
COMMENT ON COLUMN millrace.schedules.last_error IS 'the error of that run; null: it went well';
COMMENT ON COLUMN millrace.schedules.failures IS 'runs that failed since the last good one';

SELECT pg_catalog.pg_extension_config_dump('millrace.monitors', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.monitor_sketches', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.drift', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.monitor_performance', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.schedules', '');

GRANT SELECT ON millrace.monitors, millrace.drift, millrace.monitor_performance, millrace.schedules
	TO millrace_modeler, millrace_admin, millrace_monitor;
GRANT SELECT ON millrace.monitor_sketches TO millrace_modeler, millrace_admin;
