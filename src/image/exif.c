/*
 * exif.c
 *	  Walk a JPEG's markers up to the first scan: size, kind and EXIF orientation.
 *
 * Nothing is allocated and every offset is checked against the segment it lies
 * in.  ITU-T T.81 annex B for the markers, Exif 2.3 (TIFF 6.0) for the tag.
 */
#include "image/image_private.h"

#include <string.h>

static unsigned
get16(const uint8_t *p, bool little)
{
	return little ? (unsigned) (p[0] | p[1] << 8) : (unsigned) (p[0] << 8 | p[1]);
}

static uint32_t
get32(const uint8_t *p, bool little)
{
	return little ? get16(p, true) | (uint32_t) get16(p + 2, true) << 16
		: (uint32_t) get16(p, false) << 16 | get16(p + 2, false);
}

/*
 * Tag 0x0112 of the first directory of a TIFF block; 0 if it is absent or the
 * block makes no sense.  Broken EXIF does not make an image bad.
 */
static int
tiff_orientation(const uint8_t *tiff, size_t len)
{
	bool		little;
	size_t		dir;
	unsigned	n;

	if (len < 8)
		return 0;
	if (memcmp(tiff, "II*\0", 4) == 0)
		little = true;
	else if (memcmp(tiff, "MM\0*", 4) == 0)
		little = false;
	else
		return 0;
	dir = get32(tiff + 4, little);
	if (dir > len - 2)
		return 0;
	n = get16(tiff + dir, little);
	dir += 2;
	for (unsigned i = 0; i < n && dir <= len - 12 && len >= 12; i++, dir += 12)
	{
		const uint8_t *entry = tiff + dir;

		if (get16(entry, little) == 0x0112)
		{
			unsigned	value = get16(entry + 8, little);

			/* type SHORT, one value */
			if (get16(entry + 2, little) != 3 || get32(entry + 4, little) != 1 ||
				value < 1 || value > 8)
				return 0;
			return (int) value;
		}
	}
	return 0;
}

/*
 * Fill *h.  MR_INVALID if the file ends before a scan begins, has no frame
 * header, or is of a kind nobody can decode to 8 bits here.
 */
mr_code
img_jpeg_walk(const uint8_t *data, size_t len, img_jpeg_header *h, mr_status *st)
{
	size_t		pos = 2;		/* behind SOI */
	bool		have_exif = false;

	memset(h, 0, sizeof(*h));
	h->orientation = 1;
	for (;;)
	{
		int			marker;
		size_t		seg;

		/* like libjpeg: skip what is no marker, then fill bytes */
		while (pos < len && data[pos] != 0xFF)
			pos++;
		while (pos < len && data[pos] == 0xFF)
			pos++;
		if (pos >= len)
			return mr_fail(st, MR_INVALID, "invalid JPEG image: it ends before its first scan");
		marker = data[pos++];
		if (marker == 0 || marker == 0x01 || (marker >= 0xD0 && marker <= 0xD7))
			continue;			/* stuffed byte, TEM, RSTn: no segment */
		if (marker == 0xD8)
			return mr_fail(st, MR_INVALID, "invalid JPEG image: a second start-of-image marker");
		if (marker == 0xD9)
			return mr_fail(st, MR_INVALID, "invalid JPEG image: it has no scan");
		if (len - pos < 2 || (seg = get16(data + pos, false)) < 2 || seg > len - pos)
			return mr_fail(st, MR_INVALID, "invalid JPEG image: segment %02x is cut short", marker);
		if (marker == 0xDA)
			break;

		if (marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC)
		{
			if (h->sof != 0)
				return mr_fail(st, MR_INVALID, "invalid JPEG image: two frame headers");
			if (seg < 8)
				return mr_fail(st, MR_INVALID, "invalid JPEG image: frame header is cut short");
			h->sof = marker;
			h->precision = data[pos + 2];
			h->height = (int) get16(data + pos + 3, false);
			h->width = (int) get16(data + pos + 5, false);
			h->components = data[pos + 7];
		}
		else if (marker == 0xE1 && !have_exif && seg >= 8 &&
				 memcmp(data + pos + 2, "Exif\0\0", 6) == 0)
		{
			int			o = tiff_orientation(data + pos + 8, seg - 8);

			have_exif = true;
			if (o != 0)
				h->orientation = o;
		}
		pos += seg;
	}
	if (h->sof == 0)
		return mr_fail(st, MR_INVALID, "invalid JPEG image: no frame header before its first scan");
	return MR_OK;
}
