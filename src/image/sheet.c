/*
 * sheet.c
 *	  Contact sheets: many images small, in rows, with captions.
 *
 * The sheet's own pixels are all that is kept: each image is decoded at about
 * the size of its tile, drawn, and freed before the next.
 */
#include "image/draw.h"
#include "image/image_private.h"

#include <math.h>
#include <string.h>

struct img_sheet
{
	mr_env		env;
	img_sheet_plan plan;
	img_font   *font;
	img_limits	limits;
	img_pixels	pixels;
	int			margin,
				top,			/* below the title */
				caption_size,
				caption_height,
				row_height;
	int			next;			/* tile */
};

static const img_colour black = {32, 32, 32};
static const img_colour behind = {232, 234, 237};	/* where an image leaves its tile free */
static const img_colour missing = {176, 180, 186};

static int
clamp(int v, int low, int high)
{
	return v < low ? low : v > high ? high : v;
}

static mr_code
check_sheet_size(const img_limits *limits, int64_t width, int64_t height, mr_status *st)
{
	if (width <= limits->max_side && height <= limits->max_side && (uint64_t) (width * height) <= limits->max_pixels)
		return MR_OK;
	mr_fail(st, MR_LIMIT, "contact sheet of %lld x %lld pixels is too large", (long long) width, (long long) height);
	mr_detail(st, "No side may exceed %d pixels, and all of it %llu.", limits->max_side, (unsigned long long) limits->max_pixels);
	mr_hint(st, "Take fewer images or smaller tiles, or make several sheets.");
	return MR_LIMIT;
}

mr_code
img_sheet_begin(const mr_env *env, const img_sheet_plan *plan, img_font *font, const img_limits *limits,
				img_sheet **out, mr_status *st)
{
	img_sheet  *s = *out = mr_alloc(env, sizeof(img_sheet));
	int			title_size = clamp(plan->tile / 8, 13, 28);
	int64_t		width,
				height;
	mr_code		code;

	if (s == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory for a contact sheet");
	memset(s, 0, sizeof(*s));
	s->env = *env;
	s->plan = *plan;
	s->font = font;
	s->limits = *limits;
	s->margin = clamp(plan->tile / 16, 4, 24);
	s->caption_size = clamp(plan->tile / 11, 10, 16);
	img_font_size(font, s->caption_size);
	s->caption_height = img_font_height(font);
	s->row_height = plan->tile + s->margin + plan->caption_lines * s->caption_height;
	s->top = s->margin;
	if (plan->title)
	{
		img_font_size(font, title_size);
		s->top += img_font_height(font) + s->margin / 2;
	}
	width = s->margin + (int64_t) plan->columns * (plan->tile + s->margin);
	height = s->top + (int64_t) ((plan->tiles + plan->columns - 1) / plan->columns) * s->row_height;
	if ((code = check_sheet_size(limits, width, height, st)) != MR_OK ||
		(code = img_alloc(env, (int) width, (int) height, &s->pixels, st)) != MR_OK)
	{
		img_sheet_end(s);
		*out = NULL;
		return code;
	}
	memset(s->pixels.data, 255, s->pixels.stride * (size_t) height);
	if (plan->title)
		img_text(&s->pixels, font, s->margin, s->margin / 2, (int) width - 2 * s->margin, plan->title, strlen(plan->title), black);
	return MR_OK;
}

/* Words in lines, as many as there is room for. */
static void
draw_wrapped(img_sheet *s, img_rect r, const char *text)
{
	const char *p = text;
	int			room = r.x1 - r.x0;

	img_font_size(s->font, s->caption_size);
	for (int y = r.y0; *p && y + s->caption_height <= r.y1; y += s->caption_height)
	{
		size_t		taken = 0;

		/* word by word, as long as the line fits; a word longer than the line is cut */
		for (;;)
		{
			size_t		to = taken + strspn(p + taken, " ");

			to += strcspn(p + to, " ");
			if (to == taken || (taken > 0 && img_text_width(s->font, p, to, 4 * room) > room))
				break;
			taken = to;
		}
		img_text(&s->pixels, s->font, r.x0, y, room, p, taken, black);
		p += taken;
		p += strspn(p, " ");
	}
}

static void
draw_bad(img_sheet *s, img_rect tile, const char *reason)
{
	int			pad = s->margin / 2 + 2;

	img_fill(&s->pixels, tile, missing);
	draw_wrapped(s, (img_rect) {tile.x0 + pad, tile.y0 + pad, tile.x1 - pad, tile.y1 - pad}, reason);
}

/* Objects in the pixels of the scaled image. */
static mr_code
annotate_scaled(img_sheet *s, img_pixels *img, double scale_x, double scale_y, const img_object *objects, int n, mr_status *st)
{
	img_annotation how = {.line_width = clamp(s->plan.tile / 100, 1, 4),.font_size = clamp(s->plan.tile / 16, 9, 14)};
	img_object *scaled = mr_alloc(&s->env, sizeof(img_object) * (size_t) n);
	mr_code		code;

	if (scaled == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory for %d boxes", n);
	for (int i = 0; i < n; i++)
	{
		scaled[i] = objects[i];
		scaled[i].x1 = (float) (objects[i].x1 * scale_x);
		scaled[i].x2 = (float) (objects[i].x2 * scale_x);
		scaled[i].y1 = (float) (objects[i].y1 * scale_y);
		scaled[i].y2 = (float) (objects[i].y2 * scale_y);
	}
	code = img_annotate(&s->env, img, s->font, scaled, n, &how, st);
	mr_free(&s->env, scaled);
	return code;
}

/* The whole image as large as the tile allows, proportions kept. */
static mr_code
draw_image(img_sheet *s, img_rect tile, const uint8_t *data, size_t len, const img_object *objects, int n, mr_status *st)
{
	int			side = s->plan.tile;
	img_info	info;
	img_pixels	img;
	int			w,
				h,
				longer,
				scaled_w,
				scaled_h;
	mr_code		code;

	if ((code = img_probe(&s->env, data, len, &s->limits, &info, st)) != MR_OK)
		return code;
	w = info.orientation >= 5 ? info.height : info.width;
	h = info.orientation >= 5 ? info.width : info.height;
	longer = w > h ? w : h;
	scaled_w = clamp((int) lrint((double) w * side / longer), 1, side);
	scaled_h = clamp((int) lrint((double) h * side / longer), 1, side);
	code = img_decode_fit(&s->env, data, len, &s->limits, scaled_w, scaled_h, img_fit_stretch, 0, img_bicubic, 0, &img, st);
	if (code == MR_OK && n > 0)
		code = annotate_scaled(s, &img, (double) scaled_w / w, (double) scaled_h / h, objects, n, st);
	if (code == MR_OK)
	{
		size_t		left = (size_t) (tile.x0 + (side - scaled_w) / 2) * 3;
		size_t		top = (size_t) (tile.y0 + (side - scaled_h) / 2);

		img_fill(&s->pixels, tile, behind);
		for (int y = 0; y < scaled_h; y++)
			memcpy(s->pixels.data + (top + (size_t) y) * s->pixels.stride + left,
				   img.data + (size_t) y * img.stride, (size_t) scaled_w * 3);
	}
	img_free(&s->env, &img);
	return code;
}

static void
draw_caption(img_sheet *s, img_rect tile, const char *text, size_t len)
{
	img_font_size(s->font, s->caption_size);
	for (int line = 0; line < s->plan.caption_lines && len > 0; line++)
	{
		const char *end = memchr(text, '\n', len);
		/* the last line takes what is left, line ends as spaces */
		size_t		n = end && line + 1 < s->plan.caption_lines ? (size_t) (end - text) : len;

		img_text(&s->pixels, s->font, tile.x0, tile.y1 + 1 + line * s->caption_height, s->plan.tile, text, n, black);
		text += n;
		len -= n;
		if (len > 0)
		{
			text++;
			len--;
		}
	}
}

mr_code
img_sheet_add(img_sheet *s, const uint8_t *data, size_t len, const img_object *objects, int n,
			  const char *caption, size_t caption_len, mr_status *st)
{
	int			x = s->margin + s->next % s->plan.columns * (s->plan.tile + s->margin);
	int			y = s->top + s->next / s->plan.columns * s->row_height;
	img_rect	tile = {x, y, x + s->plan.tile, y + s->plan.tile};
	mr_code		code = MR_OK;

	if (s->next >= s->plan.tiles)
		return mr_fail(st, MR_INTERNAL, "contact sheet is full");
	s->next++;
	if (mr_interrupted(&s->env))
		return mr_fail(st, MR_CANCELED, "drawing canceled");
	if (data == NULL)
		draw_bad(s, tile, "no image");
	else
	{
		code = draw_image(s, tile, data, len, objects, n, st);
		if (code == MR_INVALID)
		{
			draw_bad(s, tile, st->message);
			code = MR_OK;
		}
	}
	if (caption)
		draw_caption(s, tile, caption, caption_len);
	return code;
}

const img_pixels *
img_sheet_pixels(const img_sheet *s)
{
	return &s->pixels;
}

void
img_sheet_end(img_sheet *s)
{
	mr_env		env;

	if (s == NULL)
		return;
	env = s->env;
	img_free(&env, &s->pixels);
	mr_free(&env, s);
}
