-- text: tokens and embeddings
--
-- Costs as in registry/functions.sql: high enough to be put last in a WHERE and to
-- be worth a parallel plan, and far below the truth.

CREATE FUNCTION @extschema@.embed(content text, model text DEFAULT NULL) RETURNS real[]
	LANGUAGE c STABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_embed';
COMMENT ON FUNCTION @extschema@.embed(text, text) IS
	'embedding of a text by an encoder (null: millrace.text_encoder); a text longer than the model takes is cut, see millrace.embed_long';

CREATE FUNCTION @extschema@.embed(contents text[], model text DEFAULT NULL) RETURNS SETOF real[]
	LANGUAGE c STABLE PARALLEL SAFE COST 10000 ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_embed_array';
COMMENT ON FUNCTION @extschema@.embed(text[], text) IS
	'embedding of each text, in order, run in batches; null for null; the same numbers as one by one';

CREATE FUNCTION millrace.embed_long(content text, model text DEFAULT NULL, options jsonb DEFAULT '{}',
		OUT embedding real[], OUT tokens integer, OUT truncated boolean, OUT chunks integer)
	LANGUAGE c STABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_embed_long';
COMMENT ON FUNCTION millrace.embed_long(text, text, jsonb) IS
	'embedding of a text of any length, and what became of it: tokens of the text that are in it, whether more were cut off, in how many chunks; options: long ("truncate" or "average": the mean of all chunks by their tokens), overlap (tokens), max_chunks';

CREATE FUNCTION millrace.tokenize(content text, model text DEFAULT NULL)
	RETURNS TABLE (token text, id integer, start integer, "end" integer)
	LANGUAGE c STABLE PARALLEL SAFE COST 100 ROWS 30
	AS 'MODULE_PATHNAME', 'millrace_tokenize';
COMMENT ON FUNCTION millrace.tokenize(text, text) IS
	'tokens that an encoder reads a text as, none cut; start counts characters from 1, end is the first behind: substr(content, start, "end" - start); both null for tokens that the model adds, [CLS] and [SEP] say';

CREATE FUNCTION millrace.embed_rows() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'millrace_embed_rows';
COMMENT ON FUNCTION millrace.embed_rows() IS
	'trigger, AFTER INSERT or UPDATE FOR EACH STATEMENT with transition tables: embeds a column of all new rows in one go and writes another; arguments: the column of text, the column of real[], and a model or nothing';

REVOKE EXECUTE ON FUNCTION
	@extschema@.embed(text, text),
	@extschema@.embed(text[], text),
	millrace.embed_long(text, text, jsonb),
	millrace.tokenize(text, text),
	millrace.embed_rows()
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	@extschema@.embed(text, text),
	@extschema@.embed(text[], text),
	millrace.embed_long(text, text, jsonb),
	millrace.tokenize(text, text),
	millrace.embed_rows()
	TO millrace_user;
