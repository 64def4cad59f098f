/*
 * unicode.c
 *	  Characters and their classes, by utf8proc's tables and never by locale.
 */
#include "text/text_int.h"

#include <utf8proc.h>

#include "text/unicode_tables.h"

int32_t
txt_decode(const char *p, const char *end, int *len)
{
	unsigned char c = (unsigned char) *p;
	int			n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
	int32_t		code;

	*len = 1;
	if (n == 1)
		return c;
	if (n == 0 || end - p < n)
		return 0xfffd;
	code = c & (0x7f >> n);
	for (int i = 1; i < n; i++)
	{
		if ((p[i] & 0xc0) != 0x80)
			return 0xfffd;
		code = code << 6 | (p[i] & 0x3f);
	}
	if ((n == 3 && code < 0x800) || (n == 4 && (code < 0x10000 || code > 0x10ffff)) || (code >= 0xd800 && code < 0xe000))
		return 0xfffd;
	*len = n;
	return code;
}

void
txt_put(txt_buffer *b, int32_t c, uint32_t from, uint32_t to)
{
	unsigned char bytes[4];
	long		n = utf8proc_encode_char(c, bytes);

	for (long i = 0; i < n; i++)
		txt_put_byte(b, (char) bytes[i], from, to);
}

/* White_Space */
bool
txt_is_space(int32_t c)
{
	return c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
		c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static bool
within(const txt_range *table, int n, int32_t c)
{
	int			low = 0,
				high = n;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (c > table[middle].last)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && c >= table[low].first;
}

#define WITHIN(table, c) within(table, (int) (sizeof(table) / sizeof(table[0])), c)

bool
txt_is_control(int32_t c)
{
	utf8proc_category_t k = utf8proc_category(c);

	return (k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CO) && !WITHIN(later, c);
}

bool
txt_is_punctuation(int32_t c)
{
	utf8proc_category_t k;

	if (c < 0x80)
		return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
	k = utf8proc_category(c);
	if (c == 0x166d || c == 0x111c9)
		return true;			/* until Unicode 12 and 11 */
	return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO && !WITHIN(later, c);
}

/* The blocks that BERT's tokenizer knows, the fifth one as the library has it. */
bool
txt_is_chinese(int32_t c)
{
	return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
		(c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
		(c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

bool
txt_is_nonspacing(int32_t c)
{
	if (c == 0x1734 || c == 0x1171e)
		return true;			/* until Unicode 14 and 16 */
	return c >= 0x300 && utf8proc_category(c) == UTF8PROC_CATEGORY_MN && !WITHIN(later, c);
}

bool
txt_is_mark(int32_t c)
{
	utf8proc_category_t k = utf8proc_category(c);

	return c >= 0x300 && k >= UTF8PROC_CATEGORY_MN && k <= UTF8PROC_CATEGORY_ME && !WITHIN(later, c);
}

bool
txt_is_letter(int32_t c)
{
	utf8proc_category_t k = utf8proc_category(c);

	if (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO)
		return c < 0x800 || !WITHIN(too_new, c);
	return k == UTF8PROC_CATEGORY_CN && WITHIN(letters, c);
}

bool
txt_is_number(int32_t c)
{
	utf8proc_category_t k = utf8proc_category(c);

	if (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO)
		return c < 0x800 || !WITHIN(too_new, c);
	return k == UTF8PROC_CATEGORY_CN && WITHIN(numbers, c);
}

/* Letters, marks, decimal numbers, connectors, and the two joiners (UTS #18). */
bool
txt_is_word(int32_t c)
{
	utf8proc_category_t k = utf8proc_category(c);

	return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_ME) || k == UTF8PROC_CATEGORY_ND ||
		k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_PC || c == 0x200c || c == 0x200d ||
		(c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) || (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
}

int
txt_lower(int32_t c, int32_t out[2])
{
	out[0] = utf8proc_tolower(c);
	if (c != 0x130)
		return 1;
	out[0] = 'i';				/* the one character whose lower case is two */
	out[1] = 0x307;
	return 2;
}

int
txt_combining(int32_t c)
{
	int			k = c < 0x300 ? 0 : utf8proc_get_property(c)->combining_class;

	return k && WITHIN(unordered, c) ? 0 : k;
}

int
txt_decompose(int32_t c, bool compatible, int32_t out[TXT_MAX_DECOMPOSED])
{
	int			bound = 0;
	long		n;

	out[0] = c;
	if (c < 0xa0)
		return 1;
	n = utf8proc_decompose_char(c, out, TXT_MAX_DECOMPOSED,
								UTF8PROC_DECOMPOSE | UTF8PROC_STABLE | (compatible ? UTF8PROC_COMPAT : 0), &bound);
	if (n >= 1 && n <= TXT_MAX_DECOMPOSED && ((n == 1 && out[0] == c) || !WITHIN(whole, c)))
		return (int) n;
	out[0] = c;
	return 1;
}

/*
 * GPT-2 writes bytes as printable characters: themselves, or past U+0100 in the
 * order of those that are not printable.
 */
int32_t
txt_byte_letter(unsigned char c)
{
	return c <= 32 ? 0x100 + c : c >= 127 && c <= 160 ? 0x100 + 33 + (c - 127) : c == 173 ? 0x100 + 67 : c;
}

int
txt_letter_byte(int32_t c)
{
	if (c >= 0x100 && c < 0x100 + 68)
		return c - 0x100 < 33 ? c - 0x100 : c - 0x100 < 67 ? c - 0x100 - 33 + 127 : 173;
	return c >= 0 && c < 0x100 && txt_byte_letter((unsigned char) c) == c ? c : -1;
}
