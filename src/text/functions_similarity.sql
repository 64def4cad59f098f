-- text: similarity of vectors
--
-- The operators have pgvector's names and meaning, on real[], in schema millrace alone; their functions have names
-- of their own.

CREATE FUNCTION @extschema@.cosine_similarity(a real[], b real[]) RETURNS real
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
	AS 'MODULE_PATHNAME', 'millrace_cosine_similarity';
COMMENT ON FUNCTION @extschema@.cosine_similarity(real[], real[]) IS
	'cosine of the angle between two vectors, 1 for the same direction to -1; NaN if one has length 0';

CREATE FUNCTION millrace.array_cosine_distance(a real[], b real[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
	AS 'MODULE_PATHNAME', 'millrace_array_cosine_distance';
COMMENT ON FUNCTION millrace.array_cosine_distance(real[], real[]) IS 'implementation of <=> operator';

CREATE FUNCTION millrace.array_l2_distance(a real[], b real[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
	AS 'MODULE_PATHNAME', 'millrace_array_l2_distance';
COMMENT ON FUNCTION millrace.array_l2_distance(real[], real[]) IS 'implementation of <-> operator';

CREATE FUNCTION millrace.array_negative_inner_product(a real[], b real[]) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20
	AS 'MODULE_PATHNAME', 'millrace_array_negative_inner_product';
COMMENT ON FUNCTION millrace.array_negative_inner_product(real[], real[]) IS 'implementation of <#> operator';

CREATE OPERATOR millrace.<=> (LEFTARG = real[], RIGHTARG = real[], FUNCTION = millrace.array_cosine_distance, COMMUTATOR = OPERATOR(millrace.<=>));
COMMENT ON OPERATOR millrace.<=> (real[], real[]) IS 'cosine distance: 1 - cosine of the angle';

CREATE OPERATOR millrace.<-> (LEFTARG = real[], RIGHTARG = real[], FUNCTION = millrace.array_l2_distance, COMMUTATOR = OPERATOR(millrace.<->));
COMMENT ON OPERATOR millrace.<-> (real[], real[]) IS 'Euclidean distance';

CREATE OPERATOR millrace.<#> (LEFTARG = real[], RIGHTARG = real[], FUNCTION = millrace.array_negative_inner_product, COMMUTATOR = OPERATOR(millrace.<#>));
COMMENT ON OPERATOR millrace.<#> (real[], real[]) IS 'negative inner product';

-- The mean of vectors: the state is their number and the sums of their elements.

CREATE FUNCTION millrace.vector_avg_accum(double precision[], real[]) RETURNS double precision[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_vector_avg_accum';
COMMENT ON FUNCTION millrace.vector_avg_accum(double precision[], real[]) IS 'support function of vector_avg: a row';

CREATE FUNCTION millrace.vector_avg_combine(double precision[], double precision[]) RETURNS double precision[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_vector_avg_combine';
COMMENT ON FUNCTION millrace.vector_avg_combine(double precision[], double precision[]) IS 'support function of vector_avg: two partial states';

CREATE FUNCTION millrace.vector_avg_final(double precision[]) RETURNS real[]
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_vector_avg_final';
COMMENT ON FUNCTION millrace.vector_avg_final(double precision[]) IS 'support function of vector_avg: the mean';

CREATE AGGREGATE millrace.vector_avg(vector real[]) (
	SFUNC = millrace.vector_avg_accum, STYPE = double precision[], INITCOND = '{0}', FINALFUNC = millrace.vector_avg_final,
	COMBINEFUNC = millrace.vector_avg_combine, PARALLEL = SAFE);
COMMENT ON AGGREGATE millrace.vector_avg(real[]) IS 'mean of vectors, element by element; NULL of none';
