/* The store's options, what they must not say together, and who we are. */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/net.h"
#include "base/tls.h"
#include "policy/redis_wire.h"
#include "policy/store_backend.h"

static const struct option_row store_rows[] = {
	STORE_OPTIONS(OPTION_ROW, store_options)
};

const struct section_kind store_section = {
	.name = "store",
	.doc = "Where greylisting and other policy keep what they know.",
	.rows = store_rows,
	.row_count = OPTION_COUNT(store_rows),
	.size = sizeof(struct store_options),
};

static struct tls_context *
make_tls(const struct conf *conf, const struct store_options *o,
    const char **option, const char **why)
{
	static const struct tls_settings settings = { .min_version = NULL };
	const char *bytes, *key;
	size_t len, key_len;
	struct tls_context *tls;

	*option = "tls_ca";
	*why = "cannot be read in this process";
	if (!conf_file(conf, o->tls_ca, &bytes, &len))
		return NULL;
	tls = tls_client_new(&settings, TLS_VERIFY_NAME, bytes, len, why);
	if (tls == NULL || o->tls_cert == NULL || o->tls_key == NULL)
		return tls;
	*option = "tls_cert";
	*why = "cannot be read in this process";
	if (!conf_file(conf, o->tls_cert, &bytes, &len) ||
	    !conf_file(conf, o->tls_key, &key, &key_len) ||
	    tls_client_identify(tls, bytes, len, key, key_len, why) != 0)
		tls_context_free(&tls);
	return tls;
}

int
store_access_load(const struct conf *conf, struct redis_access *access,
    const char **option, const char **why)
{
	const struct store_options *o = conf_get(conf, store_section.name);

	*access = (struct redis_access){ .user = o->user,
		.tls_name = o->tls_name };
	*option = "password";
	if (o->password != NULL && (access->password = conf_secret(conf,
	    o->password, why)) == NULL)
		return -1;
	if (o->tls_ca == NULL)
		return 0;
	access->tls = make_tls(conf, o, option, why);
	return access->tls != NULL ? 0 : -1;
}

void
store_access_release(struct redis_access *access)
{
	if (access->password != NULL)
		OPENSSL_cleanse((char *)(uintptr_t)access->password,
		    strlen(access->password));
	free((char *)(uintptr_t)access->password);
	tls_context_free(&access->tls);
	access->password = NULL;
}

struct check {
	const struct conf *conf;
	const struct conf_section *section;
	struct buf *errors;
};

static void
wrong(const struct check *check, bool is, const char *option,
    const char *text)
{
	if (is)
		conf_error(check->errors, check->conf, check->section, option,
		    "%s", text);
}

static void
check_servers(const struct check *check, const struct store_options *o)
{
	struct net_endpoint endpoint;
	bool network = true;
	const char *why;

	for (size_t i = 0; o->server[i] != NULL; i++)
		if (net_endpoint_parse(o->server[i], &endpoint, &why) != 0)
			conf_error(check->errors, check->conf, check->section,
			    "server", "%s: %s", o->server[i], why);
		else if (endpoint.address.ss_family == AF_UNIX)
			network = false;
	wrong(check, o->server[0] == NULL, "server", "is required");
	wrong(check, !network && o->cluster, "server",
	    "a Cluster has no UNIX sockets");
	wrong(check, !network && o->sentinel != NULL, "server",
	    "Sentinels have no UNIX sockets");
	wrong(check, !network && o->tls_ca != NULL, "server",
	    "TLS goes with no UNIX socket");
}

void
store_check_options(const struct conf *conf, struct buf *errors)
{
	const struct store_options *o = conf_get(conf, store_section.name);
	struct check check = { .conf = conf, .errors = errors };
	size_t count, before = errors->len;
	const char *option, *why;
	struct redis_access access;

	check.section = conf_sections(conf, store_section.name, &count);
	check_servers(&check, o);
	if (o->type != STORE_TYPE_REDIS) {
		const char *only = "is for type = redis";

		wrong(&check, o->sentinel != NULL, "sentinel", only);
		wrong(&check, o->cluster, "cluster", only);
		wrong(&check, o->user != NULL, "user", only);
		wrong(&check, o->password != NULL, "password", only);
		wrong(&check, o->tls_ca != NULL, "tls_ca", only);
		return;
	}
	wrong(&check, o->cluster && o->sentinel != NULL, "sentinel",
	    "a Cluster needs none");
	wrong(&check, o->sentinel != NULL && *o->sentinel == '\0', "sentinel",
	    "is to be a name");
	wrong(&check, o->cluster && o->database != 0, "database",
	    "a Cluster has number 0 only");
	wrong(&check, o->user != NULL && o->password == NULL, "user",
	    "needs a password, too");
	wrong(&check, o->tls_name != NULL && o->tls_ca == NULL, "tls_name",
	    "needs tls_ca");
	wrong(&check, o->tls_cert != NULL && o->tls_ca == NULL, "tls_cert",
	    "needs tls_ca");
	wrong(&check, o->tls_cert != NULL && o->tls_key == NULL, "tls_cert",
	    "needs tls_key");
	wrong(&check, o->tls_key != NULL && o->tls_cert == NULL, "tls_key",
	    "needs tls_cert");
	if (errors->len != before)
		return;
	if (store_access_load(conf, &access, &option, &why) != 0)
		wrong(&check, true, option, why);
	store_access_release(&access);
}
