/*
 * test_image_draw.c
 *	  Drawing: within the image whatever is asked for, texts that fit, colours
 *	  that can be told apart.
 */
#include <math.h>

#include "image_make.h"
#include "image/draw.h"
#include "image/image_private.h"

static const char *const fonts[] = {
	"/nowhere/font.ttf", "/etc/passwd", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
	"/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"
};

static uint32_t seed = 1;

static int
draw(int n)
{
	seed = seed * 1664525u + 1013904223u;
	return (int) ((seed >> 8) % (uint32_t) n);
}

static img_pixels
blank(int w, int h)
{
	img_pixels	p;

	img_alloc(&mr_env_malloc, w, h, &p, NULL);
	memset(p.data, 128, p.stride * (size_t) h);
	return p;
}

static bool
untouched(const img_pixels *p, img_rect except)
{
	for (int y = 0; y < p->height; y++)
		for (int x = 0; x < p->width; x++)
			if (!(x >= except.x0 && x < except.x1 && y >= except.y0 && y < except.y1))
				for (int c = 0; c < 3; c++)
					if (p->data[(size_t) y * p->stride + (size_t) x * 3 + (size_t) c] != 128)
						return false;
	return true;
}

static img_font *
open_fonts(int first, int n)
{
	img_font   *font;
	mr_status	st;

	if (img_font_open(&mr_env_malloc, fonts + first, n, &font, &st) != MR_OK)
		abort();
	return font;
}

static void
colours(void)
{
	int			nearest = 1000;
	double		faintest = 100;

	for (int i = 0; i < 16; i++)
		for (int j = 0; j < i; j++)
		{
			img_colour	a = img_class_colour(i),
						b = img_class_colour(j);
			int			d = abs(a.r - b.r) + abs(a.g - b.g) + abs(a.b - b.b);

			nearest = d < nearest ? d : nearest;
		}
	ok(nearest > 60, "the colours of 16 classes differ by %d or more", nearest);
	for (int i = -100; i < 1000; i++)
	{
		img_colour	c = img_class_colour(i);
		img_colour	t = img_text_colour(c);
		double		l = 0.2126 * pow(c.r / 255.0, 2.2) + 0.7152 * pow(c.g / 255.0, 2.2) + 0.0722 * pow(c.b / 255.0, 2.2);
		double		contrast = t.r ? 1.05 / (l + 0.05) : (l + 0.05) / 0.05;

		faintest = contrast < faintest ? contrast : faintest;
	}
	ok(faintest >= 4.5, "text on any class's colour has a contrast of %.1f or more (WCAG AA: 4.5)", faintest);
	ok(memcmp(&(img_colour[1]){img_class_colour(3)}, &(img_colour[1]){img_class_colour(3)}, sizeof(img_colour)) == 0, "a class keeps its colour");
}

static void
rectangles(void)
{
	img_pixels	p = blank(40, 30);

	img_fill(&p, (img_rect) {-5, -5, 0, 100}, (img_colour) {1, 2, 3});
	img_fill(&p, (img_rect) {50, 3, 60, 9}, (img_colour) {1, 2, 3});
	img_fill(&p, (img_rect) {9, 9, 3, 3}, (img_colour) {1, 2, 3});
	ok(untouched(&p, (img_rect) {0, 0, 0, 0}), "what lies outside leaves no trace");
	img_frame(&p, (img_rect) {10, 10, 20, 20}, 2, (img_colour) {255, 0, 0});
	ok(untouched(&p, (img_rect) {10, 10, 20, 20}) && p.data[12 * p.stride + 12 * 3] == 128 && p.data[11 * p.stride + 11 * 3] == 255,
	   "a frame goes inwards");
	img_free(&mr_env_malloc, &p);
}

static void
texts(img_font *font, const char *what)
{
	static const char word[] = "label \xD1\x8F\xCE\xA9 \xE4\xB8\xAD\xEA\xB0\x80 \xF0\x9F\x98\x80 \xFF\xC0\x80\xED\xA0\x80\xF5\xE2\x82 end";
	int			wide = 0,
				outside = 0;

	for (int round = 0; round < 300; round++)
	{
		img_pixels	p = blank(1 + draw(120), 1 + draw(60));
		char		random[64];
		const char *text = round % 2 ? word : random;
		size_t		len = round % 2 ? sizeof(word) - 1 : (size_t) draw(64);
		int			max_width = draw(150);
		int			x = draw(300) - 150,
					y = draw(200) - 100;
		int			width;

		for (size_t i = 0; i < sizeof(random); i++)
			random[i] = (char) draw(256);
		img_font_size(font, draw(40));
		width = img_text_width(font, text, len, max_width);
		wide += width > max_width || width < 0;
		wide += img_text(&p, font, x, y, max_width, text, len, (img_colour) {0, 0, 0}) != width;
		/* glyphs may lean over their advance by a little */
		outside += !untouched(&p, (img_rect) {x - 20, y - 20, x + width + 20, y + img_font_height(font) + 20});
		img_free(&mr_env_malloc, &p);
	}
	ok(wide == 0, "%s: texts are as wide as measured and never wider than allowed", what);
	ok(outside == 0, "%s: and drawn where they should be", what);
	img_font_size(font, 16);
	ok(img_text_width(font, "abc", 3, 1000) < img_text_width(font, "abcdef", 6, 1000), "%s: more letters are wider", what);
	ok(img_text_width(font, "abc", 3, 2) == 0, "%s: where not even an ellipsis fits, nothing is drawn", what);
}

static float
corner(int size)
{
	static const float odd[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 0, -0.5f, 2147483648.0f};

	return draw(6) == 0 ? odd[draw(8)] : (float) (draw(3 * size) - size) + (float) draw(100) / 100;
}

static void
boxes(img_font *font)
{
	mr_status	st;
	int			failed = 0;
	static const img_object none[] = {
		{0, "a", 1, NAN, 1, 5, 5}, {0, "a", 1, 1, 1, 5, NAN}, {0, "a", 1, 9, 9, 3, 3}, {0, "a", 1, -9, 1, 0, 5}, {0, "a", 1, 64, 1, 99, 9},
		{0, "a", 1, 5, 5, 5, 9}
	};
	img_pixels	p = blank(64, 64);
	img_annotation how = {.all_labels = true};

	ok(img_annotate(&mr_env_malloc, &p, font, none, 6, &how, &st) == MR_OK && untouched(&p, (img_rect) {0, 0, 0, 0}),
	   "what is no box, or outside, is not drawn");
	img_annotate(&mr_env_malloc, &p, font, &(img_object) {7, NULL, 0, 20.4f, 20.4f, 40.4f, 40.4f}, 1, &how, &st);
	ok(!untouched(&p, (img_rect) {0, 0, 0, 0}) && untouched(&p, (img_rect) {19, 19, 41, 41}), "a box is drawn where it is");
	img_free(&mr_env_malloc, &p);

	for (int round = 0; round < 200; round++)
	{
		int			w = 1 + draw(200),
					h = 1 + draw(200);
		img_object	o[60];
		char		name[2][200];

		p = blank(w, h);
		memset(name[0], 'W', sizeof(name[0]));
		for (size_t i = 0; i < sizeof(name[1]); i++)
			name[1][i] = (char) draw(256);
		for (int i = 0; i < 60; i++)
			o[i] = (img_object) {draw(1000) - 500, draw(5) ? name[i % 2] : NULL, (size_t) draw(200), corner(w), corner(h), corner(w), corner(h)};
		how = (img_annotation) {draw(6), draw(30), draw(2)};
		failed += img_annotate(&mr_env_malloc, &p, font, o, draw(61), &how, &st) != MR_OK;
		img_free(&mr_env_malloc, &p);
	}
	ok(failed == 0, "boxes of any numbers and labels of any bytes are drawn or passed over");
}

/* A small box within a large one of another class: both are to be seen. */
static void
small_on_top(img_font *font)
{
	img_object	o[2] = {{1, NULL, 0, 30, 30, 36, 36}, {0, NULL, 0, 31, 31, 150, 150}};
	img_pixels	p = blank(200, 200);
	img_annotation how = {.line_width = 4};
	img_colour	c = img_class_colour(1);

	img_annotate(&mr_env_malloc, &p, font, o, 2, &how, NULL);
	ok(p.data[33 * p.stride + 35 * 3] == c.r && p.data[33 * p.stride + 35 * 3 + 1] == c.g, "small boxes lie over large ones");
	img_free(&mr_env_malloc, &p);
}

static void
sheets(img_font *font)
{
	bytes		jpeg = make_jpeg(90, 60, &(jpeg_options) {.orientation = 6});
	img_object	o = {2, "label", 5, 5, 5, 50, 80};
	mr_status	st;
	int			failed = 0,
				bad_columns = 0;
	img_sheet  *sheet;
	img_limits	few = test_limits;

	for (int round = 0; round < 60; round++)
	{
		img_sheet_plan plan = {1 + draw(20), 1 + draw(8), 16 + draw(200), draw(3), round % 2 ? "title" : NULL};

		if (img_sheet_begin(&mr_env_malloc, &plan, font, &test_limits, &sheet, &st) != MR_OK)
			abort();
		for (int i = 0; i < plan.tiles; i++)
		{
			size_t		len = draw(3) ? jpeg.len : (size_t) draw((int) jpeg.len);

			failed += img_sheet_add(sheet, draw(9) ? jpeg.data : NULL, len, &o, draw(2), draw(3) ? "one\ntwo\nthree" : NULL, 13, &st) != MR_OK;
		}
		failed += img_sheet_add(sheet, NULL, 0, NULL, 0, NULL, 0, &st) != MR_INTERNAL;
		bad_columns += img_sheet_pixels(sheet)->width <= plan.columns * plan.tile;
		img_sheet_end(sheet);
	}
	ok(failed == 0 && bad_columns == 0, "sheets of good, broken and missing images");
	few.max_pixels = 10000;
	ok(img_sheet_begin(&mr_env_malloc, &(img_sheet_plan) {4, 2, 100, 0, NULL}, font, &few, &sheet, &st) == MR_LIMIT && sheet == NULL,
	   "a sheet too large is refused: %s", st.message);
	free(jpeg.data);
}

int
main(void)
{
	img_font   *font = open_fonts(0, 2);

	colours();
	rectangles();
	ok(!img_font_usable(font), "what is no font is passed over");
	texts(font, "without fonts");
	img_font_close(font);
	font = open_fonts(0, 4);
	if (img_font_usable(font))
		texts(font, "with fonts");
	else
		skip("DejaVu is not installed");
	boxes(font);
	small_on_top(font);
	sheets(font);
	img_font_close(font);
	return done_testing();
}
