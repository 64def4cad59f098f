/*
 * split_bytes.c
 *	  GPT-2's words:
 *	  's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 */
#include "text/text_int.h"

typedef enum kind
{
	KIND_LETTER,
	KIND_NUMBER,
	KIND_SPACE,
	KIND_OTHER
} kind;

static kind
kind_of(int32_t c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
		return KIND_LETTER;
	if (txt_is_space(c))
		return KIND_SPACE;
	return txt_is_letter(c) ? KIND_LETTER : txt_is_number(c) ? KIND_NUMBER : KIND_OTHER;
}

static size_t
contraction(const char *p, const char *end)
{
	static const char *const forms[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};

	for (int i = 0; i < (int) (sizeof(forms) / sizeof(forms[0])); i++)
	{
		size_t		len = strlen(forms[i]);

		if ((size_t) (end - p) >= len && memcmp(p, forms[i], len) == 0)
			return len;
	}
	return 0;
}

bool
txt_split_bytes(txt_work *w, const txt_span *s)
{
	const char *p = w->text.data + s->at;
	const char *end = p + s->len;

	while (p < end)
	{
		const char *word = p,
				   *last;
		int			len;
		size_t		short_form = *p == '\'' ? contraction(p, end) : 0;
		kind		first;

		if (short_form > 0)
		{
			if (!txt_add_span(w, (size_t) (p - w->text.data), short_form))
				return false;
			p += short_form;
			continue;
		}
		if (!txt_go_on(w, 16))
			return false;
		first = kind_of(txt_decode(p, end, &len));
		last = p;
		p += len;
		if (first == KIND_SPACE && *word == ' ' && p < end)
		{
			kind		next = kind_of(txt_decode(p, end, &len));

			if (next != KIND_SPACE)
			{
				first = next;
				last = p;
				p += len;
			}
		}
		while (p < end && kind_of(txt_decode(p, end, &len)) == first)
		{
			if (!txt_go_on(w, 4))
				return false;
			last = p;
			p += len;
		}
		/* a run of spaces leaves the last one to the word behind it */
		if (first == KIND_SPACE && p < end && last > word)
			p = last;
		if (!txt_add_span(w, (size_t) (word - w->text.data), (size_t) (p - word)))
			return false;
	}
	return true;
}
