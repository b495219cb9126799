import { createRoot } from "react-dom/client";
import { Draw } from "./Draw.jsx";

createRoot(document.getElementById("root")).render(<Draw />);
