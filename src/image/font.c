/*
 * font.c
 *	  Text by FreeType: glyphs from the first font that has them.
 *
 * A font file is opened when a character is first looked for in it, so that
 * Latin text costs nothing of the 20 MB of a font for Chinese.  Rendered
 * glyphs are kept in a small table, replaced by whatever falls on their place.
 * FreeType's errors never reach the caller: a glyph that fails is an empty box.
 */
#include "image/draw.h"

#include <string.h>

#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_MODULE_H
#include FT_SYSTEM_H

#define MAX_FILES 16
#define TABLE 512				/* glyphs kept */
#define ELLIPSIS 0x2026

typedef struct glyph
{
	uint32_t	code;
	int			size;			/* of the font when rendered; 0: nothing here */
	int			left,			/* from the pen to the first column */
				top;			/* from the base line up to the first row */
	int			width,
				height;
	int			advance;		/* pixels */
	uint8_t    *coverage;		/* width x height; NULL: nothing to see */
} glyph;

struct img_font
{
	mr_env		env;
	struct FT_MemoryRec_ memory;
	FT_Library	library;
	const char *files[MAX_FILES];	/* the caller's */
	FT_Face		face[MAX_FILES];
	bool		tried[MAX_FILES];
	int			n_files;
	int			size;
	int			ascent,
				height;
	glyph		table[TABLE];
};

static void *
ft_alloc(FT_Memory memory, long size)
{
	img_font   *font = memory->user;

	return mr_alloc(&font->env, (size_t) size);
}

static void
ft_free(FT_Memory memory, void *block)
{
	img_font   *font = memory->user;

	mr_free(&font->env, block);
}

static void *
ft_realloc(FT_Memory memory, long old_size, long new_size, void *block)
{
	void	   *grown = ft_alloc(memory, new_size);

	if (grown != NULL && block != NULL)
	{
		memcpy(grown, block, (size_t) (old_size < new_size ? old_size : new_size));
		ft_free(memory, block);
	}
	return grown;
}

mr_code
img_font_open(const mr_env *env, const char *const *files, int n_files, img_font **out, mr_status *st)
{
	img_font   *font = *out = mr_alloc(env, sizeof(img_font));

	if (font == NULL)
		return mr_fail(st, MR_NOMEM, "out of memory for fonts");
	memset(font, 0, sizeof(*font));
	font->env = *env;
	font->memory = (struct FT_MemoryRec_) {font, ft_alloc, ft_free, ft_realloc};
	if (FT_New_Library(&font->memory, &font->library) != 0)
	{
		mr_free(env, font);
		*out = NULL;
		return mr_fail(st, MR_NOMEM, "out of memory for fonts");
	}
	FT_Add_Default_Modules(font->library);
	font->n_files = n_files < MAX_FILES ? n_files : MAX_FILES;
	for (int i = 0; i < font->n_files; i++)
		font->files[i] = files[i];
	img_font_size(font, 12);
	return MR_OK;
}

void
img_font_close(img_font *font)
{
	mr_env		env;

	if (font == NULL)
		return;
	env = font->env;
	for (int i = 0; i < TABLE; i++)
		mr_free(&env, font->table[i].coverage);
	FT_Done_Library(font->library);		/* and its faces */
	mr_free(&env, font);
}

/* The i-th file, at the current size; NULL if it is no font. */
static FT_Face
face_of(img_font *font, int i)
{
	if (!font->tried[i])
	{
		font->tried[i] = true;
		if (FT_New_Face(font->library, font->files[i], 0, &font->face[i]) != 0)
			font->face[i] = NULL;
		else if (FT_Set_Pixel_Sizes(font->face[i], 0, (FT_UInt) font->size) != 0)
		{
			FT_Done_Face(font->face[i]);
			font->face[i] = NULL;
		}
	}
	return font->face[i];
}

/* The first file that opens. */
static FT_Face
main_face(img_font *font)
{
	for (int i = 0; i < font->n_files; i++)
		if (face_of(font, i))
			return font->face[i];
	return NULL;
}

bool
img_font_usable(img_font *font)
{
	return main_face(font) != NULL;
}

void
img_font_size(img_font *font, int pixels)
{
	FT_Face		face;

	if (pixels < IMG_FONT_SMALLEST)
		pixels = IMG_FONT_SMALLEST;
	if (pixels > IMG_FONT_LARGEST)
		pixels = IMG_FONT_LARGEST;
	if (pixels == font->size)
		return;
	font->size = pixels;
	for (int i = 0; i < font->n_files; i++)
		if (font->face[i] && FT_Set_Pixel_Sizes(font->face[i], 0, (FT_UInt) pixels) != 0)
		{
			FT_Done_Face(font->face[i]);
			font->face[i] = NULL;
		}
	face = main_face(font);
	font->ascent = face ? (int) ((face->size->metrics.ascender + 63) >> 6) : pixels;
	font->height = font->ascent + (face ? (int) ((-face->size->metrics.descender + 63) >> 6) : pixels / 4);
}

int
img_font_ascent(img_font *font)
{
	return font->ascent;
}

int
img_font_height(img_font *font)
{
	return font->height;
}

/* Characters that say how others are written: nothing to see where no font has them. */
static bool
is_format(uint32_t c)
{
	return (c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) || (c >= 0x2060 && c <= 0x206F) ||
		(c >= 0xFE00 && c <= 0xFE0F) || c == 0xFEFF || c == 0xAD;
}

/* Rows of a bitmap of FreeType into g->coverage; false if it cannot be used. */
static bool
copy_bitmap(img_font *font, glyph *g, const FT_Bitmap *b)
{
	int			most = 4 * font->size;

	if (b->width == 0 || b->rows == 0)
		return true;
	if ((int64_t) b->width > most || (int64_t) b->rows > most ||
		(b->pixel_mode != FT_PIXEL_MODE_GRAY && b->pixel_mode != FT_PIXEL_MODE_MONO))
		return false;
	g->coverage = mr_alloc(&font->env, (size_t) b->width * b->rows);
	if (g->coverage == NULL)
		return false;
	g->width = (int) b->width;
	g->height = (int) b->rows;
	for (int y = 0; y < g->height; y++)
	{
		const uint8_t *row = b->buffer + y * b->pitch;
		uint8_t    *to = g->coverage + y * g->width;

		if (b->pixel_mode == FT_PIXEL_MODE_GRAY)
			memcpy(to, row, (size_t) g->width);
		else
			for (int x = 0; x < g->width; x++)
				to[x] = row[x / 8] & (0x80 >> (x % 8)) ? 255 : 0;
	}
	return true;
}

static bool
render(img_font *font, glyph *g)
{
	for (int i = 0; i < font->n_files; i++)
	{
		FT_Face		face = face_of(font, i);
		FT_UInt		index = face ? FT_Get_Char_Index(face, g->code) : 0;
		FT_GlyphSlot slot;

		if (index == 0 || FT_Load_Glyph(face, index, FT_LOAD_RENDER | FT_LOAD_TARGET_LIGHT) != 0)
			continue;
		slot = face->glyph;
		g->left = slot->bitmap_left;
		g->top = slot->bitmap_top;
		g->advance = (int) ((slot->advance.x + 32) >> 6);
		/* a broken font's figures must not carry the pen away */
		if (g->advance >= 0 && g->advance <= 4 * font->size && g->left >= -4 * font->size && g->left <= 4 * font->size &&
			g->top >= -4 * font->size && g->top <= 4 * font->size && copy_bitmap(font, g, &slot->bitmap))
			return true;
	}
	return false;
}

/* What stands for a character that cannot be shown. */
static void
empty_box(img_font *font, glyph *g)
{
	g->width = font->size / 2;
	g->height = font->size * 7 / 10;
	g->left = 1;
	g->top = g->height;
	g->advance = g->width + 2;
	g->coverage = mr_alloc(&font->env, (size_t) g->width * (size_t) g->height);
	if (g->coverage == NULL)
		return;
	for (int y = 0; y < g->height; y++)
		for (int x = 0; x < g->width; x++)
			g->coverage[y * g->width + x] = x == 0 || y == 0 || x == g->width - 1 || y == g->height - 1 ? 255 : 0;
}

static const glyph *
glyph_of(img_font *font, uint32_t code)
{
	glyph	   *g = &font->table[(code ^ code >> 9) % TABLE];

	if (g->code == code && g->size == font->size)
		return g;
	mr_free(&font->env, g->coverage);
	*g = (glyph) {.code = code,.size = font->size};
	if (!render(font, g))
	{
		*g = (glyph) {.code = code,.size = font->size};
		if (!is_format(code))
			empty_box(font, g);
	}
	return g;
}

/* The next character; moves *p on by at least a byte. */
static uint32_t
next_char(const uint8_t **p, const uint8_t *end)
{
	uint32_t	c = *(*p)++;
	int			more = c >= 0xF0 && c < 0xF8 ? 3 : c >= 0xE0 ? 2 : c >= 0xC0 ? 1 : 0;
	static const uint32_t least[4] = {0, 0x80, 0x800, 0x10000};

	if (c < 0x80)
		return c < 0x20 || c == 0x7F ? ' ' : c;
	if (more == 0 || c >= 0xF8)
		return 0xFFFD;
	c &= 0x3Fu >> more;
	for (int i = 0; i < more; i++)
	{
		if (*p == end || (**p & 0xC0) != 0x80)
			return 0xFFFD;
		c = c << 6 | (*(*p)++ & 0x3Fu);
	}
	if (c < least[more] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
		return 0xFFFD;
	return c >= 0x80 && c < 0xA0 ? ' ' : c;
}

/*
 * How much of the text fits: *cut is where it ends if an ellipsis has to
 * follow, else the end.  Returns the width, the ellipsis included.  Reads no
 * further than max_width goes.
 */
static int
measure(img_font *font, const uint8_t *text, size_t len, int max_width, const uint8_t **cut)
{
	const uint8_t *end = text + len;
	const uint8_t *p = text;
	int			dots = glyph_of(font, ELLIPSIS)->advance;
	int			width = 0,
				fits = 0;		/* width of what can stand before an ellipsis */

	*cut = text;
	while (p < end)
	{
		const uint8_t *next = p;

		width += glyph_of(font, next_char(&next, end))->advance;
		if (width > max_width)
			return dots > max_width ? 0 : fits + dots;
		if (width + dots <= max_width)
		{
			fits = width;
			*cut = next;
		}
		p = next;
	}
	*cut = end;
	return width;
}

int
img_text_width(img_font *font, const char *text, size_t len, int max_width)
{
	const uint8_t *cut;

	return measure(font, (const uint8_t *) text, len, max_width, &cut);
}

static int
draw_char(img_pixels *to, img_font *font, int x, int base, uint32_t code, img_colour c)
{
	const glyph *g = glyph_of(font, code);

	if (g->coverage)
		img_stamp(to, x + g->left, base - g->top, g->coverage, g->width, g->height, g->width, c);
	return g->advance;
}

int
img_text(img_pixels *to, img_font *font, int x, int y, int max_width, const char *text, size_t len, img_colour c)
{
	const uint8_t *p = (const uint8_t *) text;
	const uint8_t *end = p + len;
	const uint8_t *cut;
	int			width = measure(font, p, len, max_width, &cut);

	if (width == 0)
		return 0;
	while (p < cut)
		x += draw_char(to, font, x, y + font->ascent, next_char(&p, end), c);
	if (cut < end)
		draw_char(to, font, x, y + font->ascent, ELLIPSIS, c);
	return width;
}
