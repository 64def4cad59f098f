/*
 * charsmap.c
 *	  SentencePiece's precompiled normalizer: a double-array trie (darts-clone)
 *	  from character sequences to their replacements.
 *
 * As the tokenizers library reads it: by grapheme clusters of fewer than 6 bytes
 * first, then by characters, and always the shortest entry that matches.
 */
#include "text/text_int.h"

#include <utf8proc.h>

/* Units of a double array, as darts-clone packs them. */
static inline uint32_t
unit_offset(uint32_t unit)
{
	return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}

/* The replacement of the shortest entry that begins s, or NULL. */
static const char *
find(const txt_tokenizer *t, const char *s, size_t len)
{
	size_t		n = t->head->count[TXT_SECTION_CHARSMAP];
	uint32_t	at = 0;

	if (n == 0)
		return NULL;
	at ^= unit_offset(t->charsmap[0]);
	for (size_t i = 0; i < len && s[i] != '\0'; i++)
	{
		unsigned char c = (unsigned char) s[i];
		uint32_t	unit;

		at ^= c;
		if (at >= n)
			return NULL;
		unit = t->charsmap[at];
		if ((unit & (1u << 31 | 0xff)) != c)
			return NULL;
		at ^= unit_offset(unit);
		if (at >= n)
			return NULL;
		if (unit >> 8 & 1)
		{
			uint32_t	value = t->charsmap[at] & 0x7fffffff;

			return value < t->head->count[TXT_SECTION_CHARSMAP_TEXT] ? t->charsmap_text + value : NULL;
		}
	}
	return NULL;
}

/* The replacement of in[at, at + len), or false. */
static bool
replace(const txt_tokenizer *t, txt_work *w, size_t at, size_t len, bool *done)
{
	const txt_buffer *in = &w->text;
	const char *r = find(t, in->data + at, len);

	*done = r != NULL;
	if (r == NULL)
		return true;
	if (!txt_room(w, &w->other, strlen(r)))
		return false;
	for (; *r; r++)
		txt_put_byte(&w->other, *r, in->from[at], in->to[at + len - 1]);
	return true;
}

bool
txt_charsmap(const txt_tokenizer *t, txt_work *w)
{
	const txt_buffer *in = &w->text;
	const char *end = in->data + in->len;

	for (size_t i = 0; i < in->len;)
	{
		int			len;
		int32_t		c = txt_decode(in->data + i, end, &len),
					state = 0;
		size_t		cluster = (size_t) len;
		bool		done = false;

		/* the grapheme cluster that begins here */
		while (i + cluster < in->len)
		{
			int			more;
			int32_t		next = txt_decode(in->data + i + cluster, end, &more);

			if (!txt_go_on(w, 1))
				return false;
			if ((c < 0x80 && next < 0x80 && !(c == '\r' && next == '\n')) || utf8proc_grapheme_break_stateful(c, next, &state))
				break;
			cluster += (size_t) more;
			c = next;
		}
		if (!txt_go_on(w, (uint32_t) cluster))
			return false;
		if (cluster < 6 && !replace(t, w, i, cluster, &done))
			return false;
		for (size_t j = i; !done && j < i + cluster; j += (size_t) len)
		{
			bool		one;

			txt_decode(in->data + j, end, &len);
			if (!replace(t, w, j, (size_t) len, &one))
				return false;
			if (one)
				continue;
			if (!txt_room(w, &w->other, (size_t) len))
				return false;
			for (int k = 0; k < len; k++)
				txt_put_byte(&w->other, in->data[j + (size_t) k], in->from[j + (size_t) k], in->to[j + (size_t) k]);
		}
		i += cluster;
	}
	return true;
}
