-- image: what image_facts() says, one row an image

CREATE TYPE millrace.image_facts AS (
	sqlstate text,
	message text,
	format text,
	width int,
	height int,
	channels int,
	orientation int,
	pixel_sha256 bytea,
	hashes bigint[],
	brightness real,
	dark_share real,
	bright_share real,
	contrast real,
	sharpness real,
	entropy real,
	colourfulness real,
	black_corners real,
	repeated real,
	thumbnail real[]
);
COMMENT ON TYPE millrace.image_facts IS 'what is measured of an image''s pixels by millrace.image_facts()';
COMMENT ON COLUMN millrace.image_facts.sqlstate IS 'why the file cannot be decoded; then message says it in words and the rest is NULL';
COMMENT ON COLUMN millrace.image_facts.format IS 'jpeg or png, by the content';
COMMENT ON COLUMN millrace.image_facts.width IS 'of the upright image, pixels; so is height';
COMMENT ON COLUMN millrace.image_facts.channels IS '1: every pixel is grey, however it is stored; 3: there is colour';
COMMENT ON COLUMN millrace.image_facts.orientation IS 'EXIF, as stored: 1 is upright, 5 to 8 swap width and height';
COMMENT ON COLUMN millrace.image_facts.pixel_sha256 IS 'of width and height (4 bytes each, big-endian) and the upright pixels, RGB rows';
COMMENT ON COLUMN millrace.image_facts.hashes IS 'image_hash() of the image as it is, mirrored left to right, upside down, turned by 180 degrees, transposed, turned right, turned left, transposed over the other diagonal';
COMMENT ON COLUMN millrace.image_facts.brightness IS 'mean luma (ITU-R 601), 0 to 255';
COMMENT ON COLUMN millrace.image_facts.dark_share IS 'share of pixels with a luma below 82 (0.32 of 255), 0 to 1; above 0.99 cleanvision calls an image dark';
COMMENT ON COLUMN millrace.image_facts.bright_share IS 'share of pixels with a luma above 242 (0.95 of 255), 0 to 1; above 0.95 cleanvision calls an image light';
COMMENT ON COLUMN millrace.image_facts.contrast IS 'standard deviation of luma, 0 to 127.5';
COMMENT ON COLUMN millrace.image_facts.sharpness IS 'variance of the Laplacian of luma, the longer side scaled down to 240 pixels; blurred is what is small beside the square of contrast';
COMMENT ON COLUMN millrace.image_facts.entropy IS 'of the histogram of luma, bits, 0 to 8';
COMMENT ON COLUMN millrace.image_facts.colourfulness IS 'by Hasler and Suesstrunk (2003), 0 is grey, above 100 is rare';
COMMENT ON COLUMN millrace.image_facts.black_corners IS 'share of the image in empty triangles at opposite corners, which rotation leaves; 0 where there are none';
COMMENT ON COLUMN millrace.image_facts.repeated IS 'share of the tiles of a grid (up to 4 x 4) that are copies of another tile, 0 to 1';
COMMENT ON COLUMN millrace.image_facts.thumbnail IS '8 x 8 pixels of RGB, the mean of each channel taken away, of unit length: the cosine of two is their correlation; all 0 of an even colour';
