-- Resizing: exact size in every fit and format; pixels compared through lossless PNG.
CREATE TEMP TABLE pics (name text PRIMARY KEY, image bytea);
INSERT INTO pics VALUES
	('rgb', decode('iVBORw0KGgoAAAANSUhEUgAAAAQAAAACCAIAAADwyuo0AAAAHElEQVR4nCXGsQ0AAAjAIEz8/+U6yIQQqnb+DAd06AcAD8h2vwAAAABJRU5ErkJggg==', 'base64')),
	('greyalpha', decode('iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAQAAADYv8WvAAAAEklEQVR4nGNkaGBgYGJgYGAAAAQeAISbTJeaAAAAAElFTkSuQmCC', 'base64')),
	('turned', decode('/9j/4AAQSkZJRgABAQAAAQABAAD/4QAiRXhpZgAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoKCgoKBggLDAsKDAkKCgr/wAALCAAEAAgBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/AOf/AODkT/mjP/cxf+4yv//Z', 'base64'));

SELECT fit, f AS format, i.format AS made, i.width, i.height, i.channels
FROM pics, unnest(ARRAY['contain', 'cover', 'stretch']) fit, unnest(ARRAY['jpeg', 'jpg', 'png']) f,
	LATERAL image_info(image_resize(image, 37, 21, fit, f)) i
WHERE name = 'rgb' ORDER BY 1, 2;

-- defaults: contain, jpeg, 90
SELECT image_resize(image, 20, 20) = image_resize(image, 20, 20, 'contain', 'jpeg', 90) AS defaults,
	length(image_resize(image, 200, 200, quality => 20)) < length(image_resize(image, 200, 200, quality => 95)) AS quality_counts
FROM pics WHERE name = 'rgb';

-- the same size changes no pixel: through PNG twice is the same file
SELECT image_resize(once, 4, 2, 'stretch', 'png') = once AS same
FROM (SELECT image_resize(image, 4, 2, 'stretch', 'png') AS once FROM pics WHERE name = 'rgb') s;

-- in its own proportions all fits agree
SELECT image_resize(image, 40, 20, 'contain', 'png') = image_resize(image, 40, 20, 'stretch', 'png') AS contain,
	image_resize(image, 40, 20, 'cover', 'png') = image_resize(image, 40, 20, 'stretch', 'png') AS cover
FROM pics WHERE name = 'rgb';
SELECT count(DISTINCT image_resize(image, 30, 30, fit, 'png')) AS different_otherwise
FROM pics, unnest(ARRAY['contain', 'cover', 'stretch']) fit WHERE name = 'rgb';

-- half transparent black over white is one grey, whichever way it is resized
SELECT encode(image_resize(image, 1, 1, 'stretch', 'png'), 'base64') = encode(image_resize(image_resize(image, 9, 9, 'stretch', 'png'), 1, 1, 'stretch', 'png'), 'base64')
	AS flat_stays_flat FROM pics WHERE name = 'greyalpha';

-- the turned one stands upright: 4 x 8, bright above dark
SELECT i.width, i.height, i.orientation FROM pics, LATERAL image_info(image_resize(image, 4, 8, 'stretch', 'png')) i WHERE name = 'turned';
SELECT image_resize(image_resize(image, 4, 8, 'stretch', 'png'), 1, 8, 'stretch', 'png') = image_resize(image, 1, 8, 'stretch', 'png') AS upright,
	image_resize(image, 4, 8, 'cover', 'png') = image_resize(image, 4, 8, 'stretch', 'png') AS its_own_proportions
FROM pics WHERE name = 'turned';

-- NULL anywhere gives NULL
SELECT image_resize(NULL, 1, 1) IS NULL AS a, image_resize(image, NULL, 1) IS NULL AS b, image_resize(image, 1, 1, fit => NULL) IS NULL AS c
FROM pics WHERE name = 'rgb';

-- memory is given back between rows: 300 images of 1 MB of pixels in one query
SELECT count(*), max(length(r)) < 20000 AS small
FROM (SELECT image_resize(image, 600, 600, 'stretch', 'jpeg', 30) AS r FROM pics, generate_series(1, 300) WHERE name = 'rgb' OFFSET 0) s;
DROP TABLE pics;
