/*
 * options_pg.c
 *	  Options of servers and user mappings; see options_pg.h.
 *
 * Memory: the current context.  Locks: none.
 */
#include "postgres.h"

#include "task/worker/options_pg.h"

#include "utils/builtins.h"

#include "core/address.h"
#include "task/http.h"
#include "task/worker/secret_pg.h"

const char *
tsk_option(List *from, const char *name)
{
	const char *value = mr_option_value(from, name);

	for (int i = 0; value == NULL && i < TSK_N_OPTIONS; i++)
		if (strcmp(tsk_options[i].name, name) == 0)
			value = tsk_options[i].fallback;
	return value;
}

int64
tsk_whole_option(List *from, const char *name)
{
	const char *value = tsk_option(from, name);

	return value ? pg_strtoint64(value) : 0;
}

char *
tsk_keep(const char *text)
{
	return text ? pstrdup(text) : NULL;
}

void
tsk_read_store(List *options, List *mapping, char *secret_key, tsk_store *store)
{
	store->url = tsk_keep(tsk_option(options, "url"));
	store->region = tsk_keep(tsk_option(options, "region"));
	store->virtual_hosts = strcmp(tsk_option(options, "addressing"), "virtual") == 0;
	store->access_key = tsk_keep(tsk_option(mapping, "access_key"));
	store->secret_key = secret_key;
	store->session_token = tsk_keep(tsk_option(mapping, "session_token"));
}

void
tsk_read_net(const ForeignServer *server, tsk_net_options *net)
{
	List	   *options = server->options;

	net->connect_timeout_ms = (int) tsk_whole_option(options, "connect_timeout_ms");
	net->timeout_ms = (int) tsk_whole_option(options, "timeout_ms");
	net->low_speed_bytes = tsk_whole_option(options, "low_speed_bytes");
	net->low_speed_ms = (int) tsk_whole_option(options, "low_speed_ms");
	net->max_bytes = tsk_whole_option(options, "max_bytes");
	net->ca_pem = tsk_keep(tsk_option(options, "ssl_ca_pem"));
	net->ca_location = tsk_keep(tsk_option(options, "ssl_ca_location"));
	net->verify = strcmp(tsk_option(options, "ssl_verify"), "true") == 0;
	net->refuses = mr_private_allowed(server) ? NULL : mr_private_address;
}

void
tsk_wipe_store(tsk_store *store)
{
	tsk_wipe(store->secret_key);
	tsk_wipe(store->session_token);
	memset(store, 0, sizeof(*store));
}
