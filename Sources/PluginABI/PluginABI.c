// The layout of v1.0, frozen: a change that moves a published field does not compile.
#include "PluginABI.h"

#define FROZEN(type, field, at) _Static_assert(offsetof(type, field) == (at), #type "." #field " has moved")

// The smallest valid sizes, v1.0's: a struct that has grown begins its growth there.
#define V1_0_SIZE(type, first_later_field, size) _Static_assert(offsetof(type, first_later_field) == (size), #type " of v1.0 has changed")

#if UINTPTR_MAX == UINT64_MAX
V1_0_SIZE(gw_outcome, sender_message, 56);
V1_0_SIZE(gw_profile, peer, 192);
V1_0_SIZE(gw_plugin, start, 88);
FROZEN(gw_profile, sequence, 8);
FROZEN(gw_profile, received_ns, 24);
FROZEN(gw_profile, tenant, 48);
FROZEN(gw_profile, labels, 64);
FROZEN(gw_profile, path, 80);
FROZEN(gw_profile, format, 112);
FROZEN(gw_profile, headers, 160);
FROZEN(gw_profile, samples, 176);
FROZEN(gw_profile, sample_count, 184);
FROZEN(gw_delivery, token, 8);
FROZEN(gw_delivery, progress, 24);
FROZEN(gw_outcome, status, 8);
FROZEN(gw_outcome, retry_after_ns, 16);
FROZEN(gw_outcome, reason, 40);
FROZEN(gw_host, context, 8);
FROZEN(gw_host, finish, 16);
FROZEN(gw_host, extension, 72);
FROZEN(gw_plugin, flags, 8);
FROZEN(gw_plugin, name, 16);
FROZEN(gw_plugin, create, 48);
FROZEN(gw_plugin, destroy, 80);
FROZEN(gw_plugin, drain, 96);
FROZEN(gw_plugin, config_schema, 112);
FROZEN(gw_json_value, count, 4);
FROZEN(gw_json_value, span, 8);
FROZEN(gw_json_value, text, 32);
FROZEN(gw_json_value, number, 48);
#endif
