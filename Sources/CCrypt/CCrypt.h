// libxcrypt: crypt(5) password hashes.
#pragma once
#include <crypt.h>
