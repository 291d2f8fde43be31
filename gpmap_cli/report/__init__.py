"""Many runs side by side: how well each model predicts, as tables and figures."""
