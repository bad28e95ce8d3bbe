// How the functions of this crate report errors: they return 0, or 1 with brt_last_error() set.
#pragma once
#include <c10/util/Exception.h>
#include <exception>
#include <string>

extern thread_local std::string brt_error;

template <typename F> int guarded(F body) {
  try {
    body();
    return 0;
  } catch (const c10::Error& e) {
    brt_error = e.what_without_backtrace();
  } catch (const std::exception& e) {
    brt_error = e.what();
  }
  return 1;
}
