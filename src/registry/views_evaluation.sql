-- registry: evaluations, as people look at them

CREATE VIEW millrace.evaluation_points WITH (security_barrier) AS
SELECT c.evaluation, c.label, c.curve, p.point, p.threshold, p.x, p.y, p."rows"
FROM millrace.evaluation_curves c,
	LATERAL ROWS FROM (pg_catalog.unnest(c.threshold), pg_catalog.unnest(c.x), pg_catalog.unnest(c.y), pg_catalog.unnest(c."rows"))
		WITH ORDINALITY AS p(threshold, x, y, "rows", point);
COMMENT ON VIEW millrace.evaluation_points IS
	'millrace.evaluation_curves, one row a point; roc: false and true positive rate, pr: recall and precision, calibration: mean probability and frequency';
GRANT SELECT ON millrace.evaluation_points TO millrace_user, millrace_monitor;
