-- image: what can be said of pixels, and pictures for people

CREATE FUNCTION millrace.image_facts(image bytea) RETURNS millrace.image_facts
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20000
	AS 'MODULE_PATHNAME', 'millrace_image_facts';
COMMENT ON FUNCTION millrace.image_facts(bytea) IS
	'everything that is measured of an image, from one decoding; a bad image is sqlstate and message, never an error';

CREATE FUNCTION @extschema@.image_hash(image bytea) RETURNS bigint
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20000
	AS 'MODULE_PATHNAME', 'millrace_image_hash';
COMMENT ON FUNCTION @extschema@.image_hash(bytea) IS
	'64-bit perceptual hash (pHash: DCT of 32 x 32 luma): images that look alike differ in few bits, see hash_distance()';

CREATE FUNCTION @extschema@.hash_distance(a bigint, b bigint) RETURNS int
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_hash_distance';
COMMENT ON FUNCTION @extschema@.hash_distance(bigint, bigint) IS
	'bits in which two perceptual hashes differ: up to 10 of 64 is a near duplicate, 32 is unrelated';

CREATE FUNCTION @extschema@.image_quality(image bytea,
		OUT brightness real, OUT contrast real, OUT sharpness real,
		OUT entropy real, OUT aspect_ratio real, OUT colourfulness real)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20000
	AS 'MODULE_PATHNAME', 'millrace_image_quality';
COMMENT ON FUNCTION @extschema@.image_quality(bytea) IS
	'brightness (mean luma, 0 to 255), contrast (its deviation), sharpness (variance of its Laplacian at 240 pixels), entropy (bits), width / height, colourfulness (Hasler and Suesstrunk)';
