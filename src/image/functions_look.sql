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

CREATE FUNCTION @extschema@.image_annotate(image bytea, detections millrace.detection[], format text DEFAULT 'jpeg', options jsonb DEFAULT '{}')
	RETURNS bytea
	LANGUAGE c STABLE PARALLEL SAFE COST 100000
	AS 'MODULE_PATHNAME', 'millrace_image_annotate';
COMMENT ON FUNCTION @extschema@.image_annotate(bytea, millrace.detection[], text, jsonb) IS
	'the image, upright, with boxes and labels drawn, each class in its colour; options: line_width, font_size, labels (fitting, all, none), confidence, scale, quality';

CREATE FUNCTION millrace.image_sheet(images bytea[], captions text[] DEFAULT NULL, options jsonb DEFAULT '{}')
	RETURNS bytea
	LANGUAGE c STABLE PARALLEL SAFE COST 1000000
	AS 'MODULE_PATHNAME', 'millrace_image_sheet';
COMMENT ON FUNCTION millrace.image_sheet(bytea[], text[], jsonb) IS
	'a contact sheet, row by row; a bad image is a grey tile that says why; options: columns, tile (pixels), title, boxes ([[{"class_name", "x1", "y1", "x2", "y2"}]], a list for each image), labels, confidence, format (jpeg, png), quality; NULL of no images';

CREATE FUNCTION @extschema@.image_crops(image bytea, boxes real[], format text DEFAULT 'png')
	RETURNS TABLE (box int, crop bytea)
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50000 ROWS 5
	AS 'MODULE_PATHNAME', 'millrace_image_crops';
COMMENT ON FUNCTION @extschema@.image_crops(bytea, real[], text) IS
	'parts of an image, decoded once: boxes as x1, y1, x2, y2 one after the other, in pixels of the upright image; NULL where a box touches no pixel; format png or jpeg';

CREATE FUNCTION @extschema@.image_crop(image bytea, x1 real, y1 real, x2 real, y2 real, format text DEFAULT 'jpeg')
	RETURNS bytea
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 50000
	AS 'MODULE_PATHNAME', 'millrace_image_crop';
COMMENT ON FUNCTION @extschema@.image_crop(bytea, real, real, real, real, text) IS
	'the part of an image within a box, in pixels of the upright image, x2 and y2 exclusive; NULL where it touches no pixel; format jpeg or png';

CREATE FUNCTION millrace.image_thumbnails(image bytea, boxes real[])
	RETURNS TABLE (box int, thumbnail real[])
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 20000 ROWS 5
	AS 'MODULE_PATHNAME', 'millrace_image_thumbnails';
COMMENT ON FUNCTION millrace.image_thumbnails(bytea, real[]) IS
	'the thumbnail of image_facts() of parts of an image, decoded once: boxes as x1, y1, x2, y2 one after the other; NULL where a box touches no pixel';
