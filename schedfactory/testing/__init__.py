"""For the tests of programs that use the library. A face: it uses nothing but what `schedfactory` exports."""
