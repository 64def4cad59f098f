/*
 * normal_form.c
 *	  NFC, NFD, NFKC and NFKD (UAX #15), with where each character comes from.
 *
 * A segment reaches from a starter to before the next one that cannot combine
 * with it: characters are decomposed, marks put into canonical order, and the
 * segment composed again if asked for.  Mappings are utf8proc's.  Places follow
 * the tokenizers library: they do not move with their marks, and what several
 * characters were composed into has the place of the first.
 */
#include "text/text_int.h"

#include <utf8proc.h>

typedef struct piece
{
	int32_t		c;
	uint32_t	from,
				to;
} piece;

/* May c, a starter, combine with what is before it?  Hangul vowels and finals, and a few dozen marks without a class. */
static bool
joins(int32_t c)
{
	if (c >= 0x1161 && c <= 0x11c2)
		return true;
	return c >= 0x300 && utf8proc_category(c) >= UTF8PROC_CATEGORY_MN && utf8proc_category(c) <= UTF8PROC_CATEGORY_ME;
}

/* Marks of a run into the order of their classes; stable.  Runs are short, but hostile ones are not: those are counted by class. */
static bool
order_marks(txt_work *w, piece *p, size_t n)
{
	size_t		count[257] = {0};
	int32_t    *sorted;

	if (n <= 16)
	{
		for (size_t i = 1; i < n; i++)
		{
			int32_t		c = p[i].c;
			int			k = txt_combining(c);
			size_t		j = i;

			for (; j > 0 && txt_combining(p[j - 1].c) > k; j--)
				p[j].c = p[j - 1].c;
			p[j].c = c;
		}
		return true;
	}
	sorted = txt_scratch(w, n * sizeof(int32_t));
	if (sorted == NULL)
		return false;
	for (size_t i = 0; i < n; i++)
	{
		if (!txt_go_on(w, 8))
			return false;
		count[txt_combining(p[i].c) + 1]++;
	}
	for (int k = 0; k < 256; k++)
		count[k + 1] += count[k];
	for (size_t i = 0; i < n; i++)
	{
		if (!txt_go_on(w, 8))
			return false;
		sorted[count[txt_combining(p[i].c)]++] = p[i].c;
	}
	for (size_t i = 0; i < n; i++)
		p[i].c = sorted[i];
	return true;
}

/* Compose a segment in place; *n is its length. */
static bool
compose(txt_work *w, piece *p, size_t *n)
{
	int32_t    *codes;
	utf8proc_ssize_t m;

	if (*n < 2)
		return true;
	codes = txt_scratch(w, *n * sizeof(int32_t));
	if (codes == NULL)
		return false;
	for (size_t i = 0; i < *n; i++)
		codes[i] = p[i].c;
	m = utf8proc_normalize_utf32(codes, (utf8proc_ssize_t) *n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
	if (m <= 0 || m == (utf8proc_ssize_t) *n)
		return true;
	for (size_t i = 0; i < (size_t) m; i++)
	{
		const piece *place = i == 0 ? &p[0] : &p[*n - (size_t) m + i];

		p[i] = (piece) {codes[i], place->from, place->to};
	}
	*n = (size_t) m;
	return true;
}

bool
txt_normal_form(txt_work *w, int flag)
{
	const txt_buffer *in = &w->text;
	txt_buffer *out = &w->other;
	piece	   *segment = NULL;
	size_t		n = 0,
				size = 0,
				marks = 0;		/* where the last run of marks begins */
	bool		good = true;

	for (size_t i = 0; good && i <= in->len;)
	{
		int32_t		codes[TXT_MAX_DECOMPOSED];
		int			len = 1,
					m = 0;

		if (i < in->len)
		{
			m = txt_decompose(txt_decode(in->data + i, in->data + in->len, &len), flag & TXT_COMPATIBLE, codes);
			good = txt_go_on(w, 1);
		}
		/* the segment ends before a starter that stands for itself, and at the end */
		if (i >= in->len || (txt_combining(codes[0]) == 0 && !joins(codes[0])))
		{
			good = good && order_marks(w, segment + marks, n - marks);
			if (flag & TXT_COMPOSE)
				good = good && compose(w, segment, &n);
			good = good && txt_room(w, out, 4 * n) && txt_go_on(w, (uint32_t) n);
			for (size_t k = 0; good && k < n; k++)
				txt_put(out, segment[k].c, segment[k].from, segment[k].to);
			n = marks = 0;
		}
		for (int k = 0; good && k < m; k++)
		{
			if (txt_combining(codes[k]) == 0)
			{
				good = order_marks(w, segment + marks, n - marks);
				marks = n + 1;
			}
			good = good && txt_grow(w->env, (void **) &segment, n, &size, sizeof(piece), w->st);
			if (good)
				segment[n++] = (piece) {codes[k], in->from[i], in->to[i]};
			if (marks > n)
				marks = n;
		}
		i += (size_t) len;
	}
	mr_free(w->env, segment);
	return good;
}
