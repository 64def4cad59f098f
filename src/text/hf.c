/*
 * hf.c
 *	  A model's folder, read: what it says of the network, its numbers and its
 *	  tokenizer; and the check of all of it.
 */
#include "text/hf_int.h"

mr_code
txt_hf_read(const mr_env *env, const txt_bundle *b, txt_hf *hf, mr_status *st)
{
	txt_folder	f = {.env = env, .st = st, .bundle = b, .hf = hf};

	memset(st, 0, sizeof(*st));
	memset(hf, 0, sizeof(*hf));
	hf->info.precision = nn_float32;
	if (!txt_read_pooling(&f) || !txt_read_config(&f) || !txt_read_tensors(&f) || !txt_choose_tokenizer(&f))
		return st->code;
	return MR_OK;
}

mr_code
txt_encoder_check(const mr_env *env, const void *bundle, size_t len, txt_encoder_info *out, mr_status *st)
{
	txt_bundle *b = mr_alloc(env, sizeof(txt_bundle));
	txt_hf	   *hf = mr_alloc(env, sizeof(txt_hf));
	void	   *tokenizer = NULL;
	size_t		tokenizer_len;
	mr_code		code;

	if (b == NULL || hf == NULL)
		code = mr_fail(st, MR_NOMEM, "out of memory");
	else
		code = txt_bundle_open(bundle, len, b, st);
	if (code == MR_OK)
		code = txt_hf_read(env, b, hf, st);
	if (code == MR_OK)
		code = txt_hf_tokenizer(env, hf, &tokenizer, &tokenizer_len, st);
	if (code == MR_OK)
		*out = hf->info;
	mr_free(env, tokenizer);
	mr_free(env, hf);
	mr_free(env, b);
	return code;
}
