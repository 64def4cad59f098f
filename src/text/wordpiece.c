/*
 * wordpiece.c
 *	  WordPiece: from the left the longest piece of the vocabulary, the pieces
 *	  behind the first with "##" before them; a word with a gap is unknown.
 */
#include "text/text_int.h"

bool
txt_wordpiece(const txt_tokenizer *t, txt_work *w, txt_span s)
{
	const char *data = w->text.data;
	size_t		end = (size_t) s.at + s.len,
				at = s.at,
				first_token = w->n_tokens;
	uint32_t	root = TXT_ROOT;

	if (s.len > t->head->max_word)
	{
		uint32_t	characters = 0;

		for (size_t i = at; i < end; i++)
			characters += ((unsigned char) data[i] & 0xc0) != 0x80;
		if (characters > t->head->max_word)
			return txt_add_token(w, t->head->unknown, at, end);
	}
	while (at < end)
	{
		uint32_t	node = root;
		int32_t		id = -1;
		size_t		piece = at;

		if (!txt_go_on(w, 16))
			return false;
		for (size_t i = at; i < end && (node = txt_child(t, node, (unsigned char) data[i])) != 0; i++)
			if (t->node_id[node] >= 0)
			{
				id = t->node_id[node];
				piece = i + 1;
			}
		if (id < 0)
		{
			w->n_tokens = first_token;
			return txt_add_token(w, t->head->unknown, s.at, end);
		}
		if (!txt_add_token(w, id, at, piece))
			return false;
		at = piece;
		root = t->head->continuation;
		if (root == 0 && at < end)
		{
			w->n_tokens = first_token;
			return txt_add_token(w, t->head->unknown, s.at, end);
		}
	}
	return true;
}
