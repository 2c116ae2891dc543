// SPDX-License-Identifier: MIT
// test_api_cpp.cpp - the program of test_api.c as C++.
#include "test_api.c"
