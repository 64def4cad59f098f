-- What a header says: kind, size, samples and EXIF orientation, as stored.
CREATE TEMP TABLE pics (name text PRIMARY KEY, image bytea);
INSERT INTO pics VALUES
	('rgb', decode('iVBORw0KGgoAAAANSUhEUgAAAAQAAAACCAIAAADwyuo0AAAAHElEQVR4nCXGsQ0AAAjAIEz8/+U6yIQQqnb+DAd06AcAD8h2vwAAAABJRU5ErkJggg==', 'base64')),
	('palette', decode('iVBORw0KGgoAAAANSUhEUgAAAAQAAAACBAMAAACNhmBQAAAAGFBMVEX//////wAA//8A/wD/AP//AAAAAP8AAAC48gnDAAAAAXRSTlMAQObYZgAAAA5JREFUeJxjDOZlknsEAAMDAWT6e/GaAAAAAElFTkSuQmCC', 'base64')),
	('grey16', decode('iVBORw0KGgoAAAANSUhEUgAAAAMAAAADEAAAAAAj0zYgAAAAE0lEQVR4nGMsNWBgYGBgYmBAogANCACrLChaNgAAAABJRU5ErkJggg==', 'base64')),
	('greyalpha', decode('iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAQAAADYv8WvAAAAEklEQVR4nGNkaGBgYGJgYGAAAAQeAISbTJeaAAAAAElFTkSuQmCC', 'base64')),
	-- a grey JPEG of 8 x 4, to be turned by 90 degrees
	('turned', decode('/9j/4AAQSkZJRgABAQAAAQABAAD/4QAiRXhpZgAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoKCgoKBggLDAsKDAkKCgr/wAALCAAEAAgBAREA/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/9oACAEBAAA/AOf/AODkT/mjP/cxf+4yv//Z', 'base64'));
SELECT name, i.* FROM pics, LATERAL image_info(image) i ORDER BY name COLLATE "C";

-- JPEG made here; a large value is looked at through its first slice
INSERT INTO pics SELECT 'jpeg', image_resize(image, 300, 200, 'stretch') FROM pics WHERE name = 'rgb';
INSERT INTO pics SELECT 'long', image || decode(repeat('00', 300000), 'hex') FROM pics WHERE name = 'jpeg';
SELECT name, i.* FROM pics, LATERAL image_info(image) i WHERE name IN ('jpeg', 'long') ORDER BY name;

-- a header that goes on behind the first slice: 131 kB of comments after the start
INSERT INTO pics SELECT 'commented', substr(image, 1, 2) || decode(repeat('fffe8002' || repeat('00', 32768), 5), 'hex') || substr(image, 3)
FROM pics WHERE name = 'jpeg';
SELECT length(image) > 160000 AS long, i.* FROM pics, LATERAL image_info(image) i WHERE name = 'commented';

SELECT image_info(NULL) IS NULL AS null_gives_null;
-- usable in an index
CREATE INDEX ON pics (((image_info(image)).width));
SELECT proname, provolatile, proisstrict, proparallel FROM pg_proc WHERE proname IN ('image_info', 'image_resize') ORDER BY 1;
DROP TABLE pics;
