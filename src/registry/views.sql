-- registry: what people look at

CREATE VIEW millrace.model_versions WITH (security_barrier) AS
SELECT m.name,
	m.version,
	pg_catalog.format('%s:%s', m.name, m.version) AS reference,
	m.kind,
	(SELECT pg_catalog.array_agg(a.alias ORDER BY a.alias)
		FROM millrace.model_aliases a
		WHERE a.name = m.name AND a.version = m.version) AS aliases,
	m.retired_at IS NULL AND m.version = COALESCE(
		(SELECT a.version FROM millrace.model_aliases a WHERE a.name = m.name AND a.alias = 'champion'),
		(SELECT pg_catalog.max(o.version) FROM millrace.models o WHERE o.name = m.name AND o.retired_at IS NULL)) AS is_default,
	m.n_inputs,
	m.n_outputs,
	pg_catalog.cardinality(m.labels) AS classes,
	(m.metrics OPERATOR(pg_catalog.->>) 'accuracy')::real AS accuracy,
	pg_catalog.pg_size_pretty(m.size) AS size,
	(SELECT pg_catalog.string_agg(pg_catalog.format('%s %s:%s', l.role, l.parent_name, l.parent_version), ', '
			ORDER BY l.role, l.parent_name, l.parent_version)
		FROM millrace.model_lineage l
		WHERE l.name = m.name AND l.version = m.version) AS parents,
	m.origin,
	m.created_at,
	m.created_by,
	m.retired_at
FROM millrace.models m;
COMMENT ON VIEW millrace.model_versions IS
	'every model version with its aliases and parents; is_default marks what the bare name means';

CREATE VIEW millrace.quantized_models WITH (security_barrier) AS
SELECT m.name,
	m.version,
	pg_catalog.format('%s:%s', l.parent_name, l.parent_version) AS quantized_from,
	q.method,
	q.rows AS calibration_rows,
	q.holdout_rows,
	q.cosine,
	q.worst_cosine,
	q.top1_agreement,
	q.max_abs_error,
	q.layers,
	q.layers_float32,
	(m.size::double precision OPERATOR(pg_catalog./) p.size)::real AS size_ratio,
	m.created_at,
	m.retired_at
FROM millrace.models m
	JOIN millrace.model_lineage l ON l.name = m.name AND l.version = m.version AND l.role = 'quantized_from'
	LEFT JOIN millrace.models p ON p.name = l.parent_name AND p.version = l.parent_version,
	LATERAL pg_catalog.jsonb_to_record(m.metrics OPERATOR(pg_catalog.->) 'quantization') AS q(method text, rows bigint,
		holdout_rows bigint, cosine double precision, worst_cosine double precision, top1_agreement double precision,
		max_abs_error double precision, layers integer, layers_float32 text[]);
COMMENT ON VIEW millrace.quantized_models IS
	'int8 versions and their agreement with the float32 model on hold-out rows: mean and worst cosine of the answers, share of rows with the same largest answer, largest difference, layers that stayed float32';

CREATE VIEW millrace.model_history WITH (security_barrier) AS
SELECT p.name, p.alias, p.version, p.live, p.set_by, p.reason
FROM (SELECT h.id, h.name, h.alias, h.version, h.set_by, h.reason,
		pg_catalog.tstzrange(h.set_at, pg_catalog.lead(h.set_at) OVER (PARTITION BY h.name, h.alias ORDER BY h.id)) AS live
	FROM millrace.alias_history h) p
WHERE p.version IS NOT NULL AND NOT pg_catalog.isempty(p.live)
ORDER BY p.id;
COMMENT ON VIEW millrace.model_history IS
	'which version an alias stood for, and when: WHERE live @> the time in question; what a transaction set and changed again is left out';

CREATE VIEW millrace.stat_models AS
SELECT s.name, s.version, s.calls, s.rows, s.seconds,
	s.seconds * 1000 / NULLIF(s.rows, 0) AS ms_per_row,
	s.loads, s.calls - LEAST(s.loads, s.calls) AS cache_hits, s.builds, s.file_bytes, s.work_bytes,
	s.errors, s.cpu_seconds, s.peak_bytes, s.last_used, s.since
FROM millrace.model_statistics() s;
COMMENT ON VIEW millrace.stat_models IS
	'what each model did since the counters were set to zero: calls, rows, seconds in its kernels; loads are sessions that mapped it, cache_hits calls that found it mapped; errors are calls that failed, bad inputs too; cpu_seconds of those seconds were worked; peak_bytes is the most that its file and a run took';

CREATE VIEW millrace.supported_operators AS
SELECT o.domain, o.operator, o.since_opset, o.until_opset, o.kernel
FROM millrace.operators() o
ORDER BY o.domain, o.operator, o.since_opset;
COMMENT ON VIEW millrace.supported_operators IS
	'ONNX operators that models may use; kernel: vector (a fast one, where shapes allow), plain, or none (no work at all)';

GRANT SELECT ON millrace.stat_models TO millrace_user, millrace_monitor;
GRANT SELECT ON millrace.supported_operators TO PUBLIC;
GRANT SELECT ON millrace.model_versions, millrace.quantized_models, millrace.model_history TO millrace_user, millrace_monitor;
