-- quality: what checks compute of each row

CREATE FUNCTION millrace.vector_digest(vector real[])
	RETURNS int
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_vector_digest';
COMMENT ON FUNCTION millrace.vector_digest(real[]) IS
	'digest of a vector''s bytes: tells in passing whether it is still the same';

CREATE FUNCTION millrace.largest_of(numbers real[], at_least double precision[] DEFAULT NULL)
	RETURNS int
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_largest_of';
COMMENT ON FUNCTION millrace.largest_of(real[], double precision[]) IS
	'the place, from 1 on, of the largest number that is not below its own limit; NULL: all are';
