/*
 * hf.c
 *	  A model's folder, read: what it says of the network, its numbers and its
 *	  tokenizer.
 */
#include "text/hf_int.h"

mr_code
txt_hf_read(const mr_env *env, const txt_bundle *b, txt_hf *hf, mr_status *st)
{
	txt_folder	f = {.env = env, .st = st, .bundle = b, .hf = hf};

	memset(st, 0, sizeof(*st));
	memset(hf, 0, sizeof(*hf));
	hf->info.precision = nn_float32;
	if (txt_read_pooling(&f))
	{
		/* where both are, transformers takes the tensors */
		hf->graph = txt_has_tensors(&f) ? NULL : txt_find_graph(&f);
		if ((hf->graph ? txt_read_graph(&f) : txt_read_config(&f) && txt_read_tensors(&f)) && txt_choose_tokenizer(&f))
			return MR_OK;
	}
	txt_printable(st);
	return st->code;
}
