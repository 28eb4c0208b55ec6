"""Break everything at random under real worker processes, and prove from what jobs wrote that nothing went wrong."""
