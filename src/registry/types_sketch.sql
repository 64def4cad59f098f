-- registry: the type of a column's sketch (C in sketch_pg.c)

CREATE TYPE millrace.sketch;
CREATE FUNCTION millrace.sketch_in(cstring) RETURNS millrace.sketch
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'millrace_sketch_in';
CREATE FUNCTION millrace.sketch_out(millrace.sketch) RETURNS cstring
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'millrace_sketch_out';
CREATE FUNCTION millrace.sketch_recv(internal) RETURNS millrace.sketch
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'millrace_sketch_recv';
CREATE FUNCTION millrace.sketch_send(millrace.sketch) RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'millrace_sketch_send';
CREATE TYPE millrace.sketch (
	INPUT = millrace.sketch_in,
	OUTPUT = millrace.sketch_out,
	RECEIVE = millrace.sketch_recv,
	SEND = millrace.sketch_send,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = int4,
	STORAGE = extended
);
COMMENT ON TYPE millrace.sketch IS
	'what a column looked like, in at most 25 kB (numbers) or 1,024 categories: counts, moments, quantiles, frequent values; made by sketch_agg()';
COMMENT ON FUNCTION millrace.sketch_in(cstring) IS 'hexadecimal bytes, checked';
COMMENT ON FUNCTION millrace.sketch_out(millrace.sketch) IS 'hexadecimal bytes';
COMMENT ON FUNCTION millrace.sketch_recv(internal) IS 'bytes, checked';
COMMENT ON FUNCTION millrace.sketch_send(millrace.sketch) IS 'bytes';

CREATE TYPE millrace.test_result AS (
	statistic double precision,
	p         double precision,
	df        integer
);
COMMENT ON TYPE millrace.test_result IS 'a test''s statistic, the probability of one as large by chance, and degrees of freedom where it has them';

CREATE TYPE millrace.sketch_summary AS (
	kind       text,
	"rows"     bigint,
	missing    bigint,
	infinite   bigint,
	min        double precision,
	q25        double precision,
	median     double precision,
	q75        double precision,
	max        double precision,
	mean       double precision,
	sd         double precision,
	categories bigint,
	exact      boolean,
	rank_error double precision
);
COMMENT ON TYPE millrace.sketch_summary IS
	'what describe() says of a sketch: kind number or category; rank_error is the standard error of a quantile''s rank, as a share; mean and sd of finite values';

CREATE TYPE millrace.drift_figures AS (
	psi            double precision,
	jensen_shannon double precision,
	ks             double precision,
	ks_p           double precision,
	shift          double precision,
	shift_p        double precision,
	mean_shift     double precision,
	sd_ratio       double precision,
	chi2           double precision,
	chi2_p         double precision,
	chi2_df        integer,
	missing        double precision,
	reference_missing double precision,
	missing_p      double precision,
	new_share      double precision,
	new_p          double precision
);
COMMENT ON TYPE millrace.drift_figures IS
	'how far one sketch is from another, see drift_figures(); null where a figure has no meaning';
