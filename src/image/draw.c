/*
 * draw.c
 *	  Rectangles, stamps and colours.  Everything is clipped to the image.
 */
#include "image/draw.h"

#include <math.h>
#include <string.h>

static inline int
clamp(int v, int low, int high)
{
	return v < low ? low : v > high ? high : v;
}

void
img_fill(img_pixels *to, img_rect r, img_colour c)
{
	r.x0 = clamp(r.x0, 0, to->width);
	r.x1 = clamp(r.x1, 0, to->width);
	r.y0 = clamp(r.y0, 0, to->height);
	r.y1 = clamp(r.y1, 0, to->height);
	for (int y = r.y0; y < r.y1; y++)
	{
		uint8_t    *p = to->data + (size_t) y * to->stride + (size_t) r.x0 * 3;

		for (int x = r.x0; x < r.x1; x++, p += 3)
		{
			p[0] = c.r;
			p[1] = c.g;
			p[2] = c.b;
		}
	}
}

void
img_frame(img_pixels *to, img_rect r, int thickness, img_colour c)
{
	if (2 * thickness >= r.x1 - r.x0 || 2 * thickness >= r.y1 - r.y0)
	{
		img_fill(to, r, c);
		return;
	}
	img_fill(to, (img_rect) {r.x0, r.y0, r.x1, r.y0 + thickness}, c);
	img_fill(to, (img_rect) {r.x0, r.y1 - thickness, r.x1, r.y1}, c);
	img_fill(to, (img_rect) {r.x0, r.y0 + thickness, r.x0 + thickness, r.y1 - thickness}, c);
	img_fill(to, (img_rect) {r.x1 - thickness, r.y0 + thickness, r.x1, r.y1 - thickness}, c);
}

static inline uint8_t
mix(uint8_t under, uint8_t over, int coverage)
{
	return (uint8_t) (under + ((over - under) * coverage + (over >= under ? 127 : -127)) / 255);
}

void
img_stamp(img_pixels *to, int x, int y, const uint8_t *coverage, int width, int height,
		  ptrdiff_t pitch, img_colour c)
{
	int			x0 = x < 0 ? -x : 0,
				y0 = y < 0 ? -y : 0;
	int			x1 = width < to->width - x ? width : to->width - x,
				y1 = height < to->height - y ? height : to->height - y;

	for (int j = y0; j < y1; j++)
	{
		uint8_t    *p = to->data + (size_t) (y + j) * to->stride + (size_t) (x + x0) * 3;

		for (int i = x0; i < x1; i++, p += 3)
		{
			int			a = coverage[j * pitch + i];

			p[0] = mix(p[0], c.r, a);
			p[1] = mix(p[1], c.g, a);
			p[2] = mix(p[2], c.b, a);
		}
	}
}

/*
 * Hues a golden section of the circle apart never come together; from the
 * ninth colour on, where neighbours in hue get close, brightness and then
 * saturation tell them apart.
 */
img_colour
img_class_colour(int class_id)
{
	uint32_t	id = (uint32_t) class_id;
	double		hue = fmod(id * 0.61803398874989485 + 0.02, 1.0) * 6;
	double		value = id / 8 % 2 ? 0.72 : 1.0;
	double		saturation = id / 16 % 2 ? 0.55 : 0.88;
	double		part = hue - floor(hue);
	double		low = value * (1 - saturation),
				down = value * (1 - saturation * part),
				up = value * (1 - saturation * (1 - part));
	double		rgb[6][3] = {{value, up, low}, {down, value, low}, {low, value, up},
	{low, down, value}, {up, low, value}, {value, low, down}};
	const double *c = rgb[(int) hue % 6];

	return (img_colour) {(uint8_t) lrint(c[0] * 255), (uint8_t) lrint(c[1] * 255), (uint8_t) lrint(c[2] * 255)};
}

/* Relative luminance as WCAG 2 defines it, with 2.2 for sRGB's curve. */
img_colour
img_text_colour(img_colour c)
{
	double		luminance = 0.2126 * pow(c.r / 255.0, 2.2) + 0.7152 * pow(c.g / 255.0, 2.2) +
		0.0722 * pow(c.b / 255.0, 2.2);

	/* contrast with black is (l + 0.05) / 0.05, with white 1.05 / (l + 0.05) */
	return (luminance + 0.05) * (luminance + 0.05) > 0.05 * 1.05 ? (img_colour) {0, 0, 0} : (img_colour) {255, 255, 255};
}
