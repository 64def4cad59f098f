-- What pixels say: image_facts(), image_hash(), image_quality().
CREATE TEMP TABLE pics (name text PRIMARY KEY, image bytea);
INSERT INTO pics VALUES
	('rgb', decode('iVBORw0KGgoAAAANSUhEUgAAAAQAAAACCAIAAADwyuo0AAAAHElEQVR4nCXGsQ0AAAjAIEz8/+U6yIQQqnb+DAd06AcAD8h2vwAAAABJRU5ErkJggg==', 'base64')),
	('grey16', decode('iVBORw0KGgoAAAANSUhEUgAAAAMAAAADEAAAAAAj0zYgAAAAE0lEQVR4nGMsNWBgYGBgYmBAogANCACrLChaNgAAAABJRU5ErkJggg==', 'base64')),
	('gif', 'GIF89a'),
	('nothing', '');
INSERT INTO pics SELECT 'half', substr(image_resize(image, 64, 64, 'stretch'), 1, 500) FROM pics WHERE name = 'rgb';
INSERT INTO pics SELECT 'large', image_resize(image, 700, 500, 'stretch') FROM pics WHERE name = 'rgb';

SELECT name, sqlstate, message, format, width, height, channels, orientation, length(pixel_sha256) AS digest, cardinality(hashes) AS hashes,
	brightness::numeric(6,2), contrast::numeric(6,2), entropy::numeric(4,2), cardinality(thumbnail) AS thumbnail
FROM pics, millrace.image_facts(image) ORDER BY name;
-- No image, no facts.
SELECT num_nonnulls(f.sqlstate, f.format) FROM millrace.image_facts(NULL) f;
-- A limit is the image's fault as well; nothing raises.
SET millrace.image_max_pixels = 7;
SET millrace.image_max_bytes = 1024;
SELECT name, sqlstate, message FROM pics, millrace.image_facts(image) WHERE name IN ('rgb', 'large') ORDER BY name;
RESET millrace.image_max_pixels;
RESET millrace.image_max_bytes;

-- An even colour: no detail, no colour, no likeness.
SELECT to_hex(hashes[1]) AS hash, contrast, sharpness, entropy, colourfulness, black_corners, repeated, (SELECT max(abs(t)) FROM unnest(thumbnail) t) AS thumbnail
FROM pics, millrace.image_facts(image_resize(image, 100, 100, 'stretch', 'png')) WHERE name = 'grey16';

-- The same pixels in another file are the same digest; the same picture in another size has a like thumbnail.
SELECT a.pixel_sha256 = b.pixel_sha256 AS same_pixels, (SELECT sum(x * y) FROM unnest(a.thumbnail, c.thumbnail) AS u (x, y)) > 0.999 AS alike, a.pixel_sha256 = c.pixel_sha256 AS same_as_scaled
FROM pics, millrace.image_facts(image) a, millrace.image_facts(image_resize(image, width, height, 'stretch', 'png')) b,
	millrace.image_facts(image_resize(image, 350, 250, 'stretch', 'png')) c
WHERE name = 'large';

-- One figure is the same wherever it is asked for.
SELECT hashes[1] = image_hash(image) AS hash, (f.brightness, f.contrast, f.sharpness, f.entropy, 1.4::real, f.colourfulness) = (q.brightness, q.contrast, q.sharpness, q.entropy, q.aspect_ratio, q.colourfulness) AS quality
FROM pics, millrace.image_facts(image) f, image_quality(image) q WHERE name = 'large';

SELECT hash_distance(0, 0), hash_distance(-1, 0), hash_distance(5, 6);
SELECT image_hash('GIF89a');
SELECT image_quality('');
DROP TABLE pics;
