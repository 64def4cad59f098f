/*
 * encode_cut.c
 *	  The first tokens of a long text, without reading all of it.
 *
 * Most tokenizers cut a text at its blanks before anything else: what stands
 * before a blank becomes the same tokens whatever comes behind it.  So a prefix
 * that ends before a blank and has more tokens than are wanted tells all.
 */
#include "text/text_int.h"

#define BYTES_OF_TOKEN 8		/* most texts have fewer */

/* Is a blank behind a letter always the end of a word? */
static bool
words_end_at_blanks(const txt_tokenizer *t)
{
	const txt_head *h = t->head;
	bool		split = false;

	for (uint32_t i = 0; i < h->n_normalize; i++)
	{
		const txt_step *s = &h->normalize[i];

		/* blanks by blanks is the one harmless replacement of blanks */
		if (s->op == TXT_REPLACE && memchr(s->a, ' ', s->a_len) &&
			!(s->a_len == 1 && s->b_len == 1 && s->b[0] == ' '))
			return false;
	}
	for (uint32_t i = 0; i < h->n_split; i++)
	{
		const txt_step *s = &h->split[i];

		split |= s->op == TXT_SPLIT_BERT || s->op == TXT_SPLIT_SPACE || s->op == TXT_SPLIT_WORDS ||
			(s->op == TXT_SPLIT_BYTES && (s->flag & TXT_PATTERN)) || (s->op == TXT_METASPACE && (s->flag & TXT_SPLIT));
	}
	for (uint64_t i = 0; split && i < h->count[TXT_SECTION_ADDED]; i++)
	{
		size_t		len;
		const char *text = txt_token_text(t, t->added[i].id, &len);

		split = text == NULL || memchr(text, ' ', len) == NULL;
	}
	return split;
}

/* The last blank behind a letter or ASCII sign in the second half of n bytes; 0: none. */
static size_t
blank_before(const char *text, size_t n)
{
	for (size_t i = n; i-- > n / 2 + 4;)
		if (text[i] == ' ')
		{
			size_t		from = i - 1;
			int			len;
			int32_t		c;

			while (from > i - 4 && ((unsigned char) text[from] & 0xc0) == 0x80)
				from--;
			c = txt_decode(text + from, text + i, &len);
			if (from + (size_t) len == i && ((c > ' ' && c < 0x7f) || txt_is_letter(c)))
				return i;
		}
	return 0;
}

mr_code
txt_encode_cut(const txt_tokenizer *t, txt_work *w, const char *text, size_t len, const txt_limits *limits,
			   txt_tokens *out, mr_status *st)
{
	size_t		n = (size_t) limits->max_tokens * BYTES_OF_TOKEN;

	if (n > 0 && n < len / 2 && words_end_at_blanks(t))
		for (; n < len / 2; n *= 4)
		{
			size_t		cut = blank_before(text, n);
			mr_code		code;

			if (cut == 0)
				continue;
			code = txt_encode(t, w, text, cut, limits, out, st);
			if (code != MR_OK || out->truncated)
				return code;
		}
	return txt_encode(t, w, text, len, limits, out, st);
}

void
txt_template(const txt_tokenizer *t, const int32_t **before, int *n_before, const int32_t **after, int *n_after)
{
	*before = t->head->before;
	*n_before = (int) t->head->n_before;
	*after = t->head->after;
	*n_after = (int) t->head->n_after;
}

bool
txt_bytes_as_letters(const txt_tokenizer *t)
{
	return t->head->model == TXT_BPE;
}
