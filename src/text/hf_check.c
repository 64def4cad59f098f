/*
 * hf_check.c
 *	  Everything that importing an encoder checks.
 */
#include "text/hf_int.h"

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
